"""Class names are unique, docstrings name modules that exist, and tests mirror the source."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("container", "serve", "local")
SOURCES = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
TESTS = sorted(path for tree in TREES for path in (ROOT / "tests/unit" / tree).rglob("test_*.py"))
MODULES = {path.relative_to(ROOT).with_suffix("") for path in SOURCES}
PACKAGES = {path.parent for path in MODULES}

DOTTED = re.compile(r"(?<![\w./:-])(?:container|serve|local)(?:\.[a-z_][a-z0-9_]*)+(?![\w-])")
PATH = re.compile(r"(?<![\w./-])(?:container|serve|local)(?:/[a-z0-9_]+)+\.py\b")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement within, where docstrings and classes are; `ast.walk` visits names too."""
    for part in ("body", "orelse", "handlers", "cases", "finalbody"):
        for child in getattr(node, part, ()):
            yield child
            yield from statements(child)


def texts(path: Path) -> list[str]:
    """The docstrings and comments of a file."""
    source = path.read_text(encoding="utf-8")
    strings = [
        node.value.value
        for node in statements(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return strings + re.findall(r"#.*", source)


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module or package, or an attribute of a module."""
    path = Path(*dotted.split("."))
    if path in MODULES or path in PACKAGES:
        return True
    source = ROOT / path.parent.with_suffix(".py")
    package = ROOT / path.parent / "__init__.py"
    return any(
        file.exists() and re.search(rf"\b{path.name}\b", file.read_text(encoding="utf-8"))
        for file in (source, package)
    )


def test_no_class_name_is_used_twice() -> None:
    places = defaultdict(list)
    for path in SOURCES:
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("tree", [*TREES, "tests"])
def test_docstrings_and_comments_name_modules_that_exist(tree: str) -> None:
    gone = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / tree).rglob("*.py")
        for text in texts(path)
        for name in (*DOTTED.findall(text), *PATH.findall(text))
        if not (exists(name) if "/" not in name else (ROOT / name).exists())
    }
    assert gone == set()


def mirrored(test: Path) -> bool:
    """Whether a test is named after a module or package of its folder, an aspect of it at most.

    `hosting/test_endpoints_states.py` is about `hosting/endpoints.py`, `reading/test_reading.py`
    about the package itself, and `test_main.py` about `__main__.py`.
    """
    folder = test.relative_to(ROOT / "tests/unit").parent
    about = test.stem.removeprefix("test_")
    here = {path.name.strip("_") for path in MODULES | PACKAGES if path.parent == folder}
    return any(f"{about}_".startswith(f"{name}_") for name in here | {folder.name})


def test_every_unit_test_mirrors_a_module_or_package() -> None:
    assert {str(test.relative_to(ROOT)) for test in TESTS if not mirrored(test)} == set()

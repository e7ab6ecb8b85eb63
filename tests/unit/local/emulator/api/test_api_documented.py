"""Compares the list of refused members and values in docs/local-sagemaker.md with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import local.emulator.api
from local.emulator.api.operations import OPERATIONS
from local.emulator.aws.application import SERVICES
from local.emulator.hosting.runtime_headers import REFUSED_HEADERS
from local.emulator.shapes.service_model import service_model

CODE = Path(local.emulator.api.__file__).parent
PAGE = Path(__file__).parents[5] / "docs" / "local-sagemaker.md"


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def listed(title: str) -> list[str]:
    """Return the names between `<!-- title -->` and `<!-- end -->`."""
    found = re.search(rf"<!-- {title} -->\n(.*?)\n<!-- end -->", page(), re.DOTALL)
    assert found is not None, title
    return re.split(r",\s+", found[1])


def section(title: str) -> str:
    return page().split(f"## {title}\n")[1].split("\n## ")[0]


def calls(name: str) -> Iterator[tuple[ast.Module, ast.Call]]:
    """Return every call of a function in the API's code, with its module."""
    for path in sorted(CODE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                yield tree, node


def keys(tree: ast.Module, node: ast.expr) -> list[str]:
    """Return the string keys of a dictionary, given literally or by name."""
    if isinstance(node, ast.Name):
        for each in ast.walk(tree):
            if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == node.id:
                return keys(tree, each.value)
    assert isinstance(node, ast.Dict), ast.unparse(node)
    return [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]


def test_operations() -> None:
    assert listed("offered") == sorted(OPERATIONS)
    assert listed("not offered") == sorted(set(service_model().operation_names) - set(OPERATIONS))


def test_services() -> None:
    named = set(re.findall(r"`([a-z0-9-]+)`", section("Services").partition("A request")[0]))
    assert named == {"sagemaker", "sagemaker-runtime", *SERVICES}


def test_every_member_that_is_refused_is_listed() -> None:
    text = section("Members of requests that are refused")
    refused = {key for tree, call in calls("refuse_present") for key in keys(tree, call.args[1])}
    assert len(refused) > 20
    assert [name for name in sorted(refused) if f"`{name}`" not in text] == []
    assert [name for name in REFUSED_HEADERS if f"`{name}`" not in text] == []


def test_every_value_that_is_refused_is_listed() -> None:
    text = section("Members of requests that are refused")
    for _, call in calls("unsupported"):
        parts = [
            str(node.value)
            for node in ast.walk(call.args[0])
            if isinstance(node, ast.Constant) and re.search("[A-Za-z]{4}", str(node.value))
        ]
        for part in parts:
            names = re.findall(r"[A-Z]\w+(?:\.[A-Z]\w+)*", part)
            assert all(name in text for name in names), part


def test_every_listed_member_and_value_is_refused_by_the_code() -> None:
    text = section("Members of requests that are refused")
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(CODE.rglob("*.py")))
    for name in re.findall(r"`([A-Z][\w.]+)`", text):
        last = name.rstrip(".").rpartition(".")[2]
        assert last in code or last in REFUSED_HEADERS or last in ("Target", "Inference"), name

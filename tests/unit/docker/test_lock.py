import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


IMAGE = pins(ROOT / "docker" / "requirements.txt")
MACHINE = pins(ROOT / "constraints.txt")


def test_the_image_holds_what_the_tests_ran_with() -> None:
    assert IMAGE
    assert {name: MACHINE.get(name) for name in IMAGE} == IMAGE


def test_both_locks_are_what_is_installed() -> None:
    check = [sys.executable, str(ROOT / "docker" / "lock.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("extra", "locked"),
    [("image", IMAGE), ("local", MACHINE), ("sdk", MACHINE), ("dev", MACHINE)],
)
def test_every_requirement_is_locked_within_its_bounds(extra: str, locked: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["optional-dependencies"][extra]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_the_torch_layer_locks_all_that_torch_needs() -> None:
    """Else a newer release of one of them would be downloaded with every build of that layer."""
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    (pattern,) = re.findall(r"grep -E '(\^\(torch\|.*)==' ", dockerfile)
    wanted, seen = ["torch", "torchvision"], set()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in IMAGE:
            continue
        seen.add(name)
        assert re.fullmatch(pattern.removeprefix("^"), name), name
        wanted += [canonicalize_name(Requirement(line).name) for line in unconditional(name)]
    assert len(seen) > 10


def unconditional(name: str) -> list[str]:
    return [line for line in requires(name) or () if "extra ==" not in line]

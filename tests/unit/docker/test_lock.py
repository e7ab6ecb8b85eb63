import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]

LOCK = runpy.run_path(str(ROOT / "docker" / "lock.py"))


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
    [
        ("image", IMAGE),
        ("serve", IMAGE),
        *((extra, MACHINE) for extra in ("local", "tuning", "report", "sdk", "dev")),
    ],
)
def test_every_requirement_is_locked_within_its_bounds(extra: str, locked: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == project["name"]:
            continue
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_the_image_that_trains_holds_what_serves_and_the_dockerfile_takes_it_from_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = project["optional-dependencies"]
    own = [line for line in offered["image"] if Requirement(line).name == project["name"]]
    assert own == [f"{project['name']}[serve]"]
    assert set(offered["image"]).isdisjoint(offered["serve"])
    assert rf"grep -v '^{project['name']}\[serve\]'" in (ROOT / "docker/Dockerfile").read_text()
    closure = LOCK["closure"]
    assert closure(["serve"], bare=False).items() < closure(["image"], bare=False).items()


def test_all_is_every_extra_that_runs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = project["optional-dependencies"]["all"]
    everything = Requirement(line)
    assert everything.name == project["name"]
    assert everything.extras == {*project["optional-dependencies"]} - {"all", "sdk", "dev"}


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("a", True),
        ("a; python_version < '3.11'", False),
        ("a; python_version < '3.12'", True),
        ("a; python_version >= '3.13'", True),
        ("a; python_full_version >= '3.14'", False),
        ("a; extra == 'more'", True),
        ("a; extra == 'other'", False),
        ("a; extra == 'more' and python_version > '3.13'", False),
    ],
)
def test_what_any_of_the_pythons_needs_is_locked(line: str, *, needed: bool) -> None:
    marker = Requirement(line).marker
    assert LOCK["applies"](marker, {"more"}, LOCK["pythons"](">=3.11,<3.14")) is needed


def test_the_pythons_are_those_of_the_project() -> None:
    assert LOCK["pythons"](">=3.11,<3.14") == ["3.11", "3.12", "3.13"]


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
    """What every installation of a package requires, on one of the Pythons at least."""
    versions = LOCK["pythons"](">=3.11,<3.14")
    return [
        line
        for line in requires(name) or ()
        if LOCK["applies"](Requirement(line).marker, (), versions)
    ]

"""Write the two lock files from the environment that runs this script.

`constraints.txt` pins everything `make setup` installs; `docker/requirements.txt` pins the part of
it that the image holds. Both come from one environment, so that what the tests ran is what ships,
and both hold on every Python of `requires-python`: what another one needs more is installed here
too.

    .venv/bin/python docker/lock.py           write both files
    .venv/bin/python docker/lock.py --check   exit 1, naming the differences, if either is stale
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# pip comes with the virtual environment itself, before any constraint is read.
UNPINNED = {"pip"}
WITHOUT_DEPENDENCIES = ROOT / "docker" / "no-deps.txt"
"""Packages installed with `pip install --no-deps`."""
LOCKS = {
    ROOT / "docker" / "requirements.txt": ("image",),
    ROOT / "constraints.txt": ("image", "local", "serve", "tuning", "report", "sdk", "dev"),
}
HEADER = "# Written by docker/lock.py; change pyproject.toml and run `make lock` instead.\n"


def pythons(requires: str) -> list[str]:
    """The versions that `requires-python` admits, such as "3.11"."""
    admitted = SpecifierSet(requires)
    return [f"3.{minor}" for minor in range(30) if admitted.contains(f"3.{minor}.0")]


def closure(extras: Iterable[str], *, bare: bool = True) -> dict[str, str]:
    """Return name -> exact version of all that the project's `extras` need, directly or not.

    With `bare`, also of the packages that are installed without dependencies.
    """
    pins: dict[str, str] = {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = pythons(project["requires-python"])
    offered = project["optional-dependencies"]
    own = canonicalize_name(project["name"])
    wanted = [Requirement(line) for extra in extras for line in offered[extra]]
    lines = WITHOUT_DEPENDENCIES.read_text().splitlines() if bare else ()
    without = [Requirement(line) for line in lines if line and not line.startswith("#")]
    alone = {canonicalize_name(requirement.name) for requirement in without}
    wanted += without
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name == own:
            wanted += [Requirement(line) for extra in requirement.extras for line in offered[extra]]
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"lock: {name} is not installed here; run `make setup`") from None
        if name not in UNPINNED:
            pins[name] = found.version
        if name in alone:
            continue
        for line in found.requires or ():
            child = Requirement(line)
            if applies(child.marker, requirement.extras, versions):
                wanted.append(child)
    return pins


def applies(marker: Marker | None, extras: Iterable[str], versions: Iterable[str]) -> bool:
    """Whether a requirement with this marker is one on any of the Python versions."""
    if marker is None:
        return True
    here = {name: str(value) for name, value in default_environment().items()}
    return any(
        marker.evaluate(
            {**here, "python_version": v, "python_full_version": f"{v}.0", "extra": extra}
        )
        for v in versions
        for extra in ("", *extras)
    )


def render(pins: dict[str, str]) -> str:
    """Return the text of a lock file: one `name==version` a line, sorted."""
    return HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def main(arguments: list[str]) -> int:
    """Write the locks, or compare them with the environment; returns the exit status."""
    stale = 0
    for path, extras in LOCKS.items():
        text = render(closure(extras))
        if arguments == ["--check"]:
            have = set(path.read_text().splitlines()) if path.exists() else set()
            for line in sorted(have.symmetric_difference(text.splitlines())):
                print(
                    f"{path.relative_to(ROOT)}: {'not installed' if line in have else 'missing'}"
                    f": {line}"
                )
                stale = 1
        else:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

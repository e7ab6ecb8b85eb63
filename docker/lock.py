"""Write the two lock files from the environment that runs this script.

`constraints.txt` pins everything `make setup` installs; `docker/requirements.txt` pins the part of
it that the image holds. Both come from one environment, so that what the tests ran is what ships.

    .venv/bin/python docker/lock.py           write both files
    .venv/bin/python docker/lock.py --check   exit 1, naming the differences, if either is stale
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# pip comes with the virtual environment itself, before any constraint is read.
UNPINNED = {"pip"}
LOCKS = {
    ROOT / "docker" / "requirements.txt": ("image",),
    ROOT / "constraints.txt": ("image", "local", "sdk", "dev"),
}
HEADER = "# Written by docker/lock.py; change pyproject.toml and run `make lock` instead.\n"


def closure(extras: Iterable[str]) -> dict[str, str]:
    """Return name -> exact version of all that the project's `extras` need, directly or not."""
    pins: dict[str, str] = {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = project["optional-dependencies"]
    wanted = [Requirement(line) for extra in extras for line in offered[extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"lock: {name} is not installed here; run `make setup`") from None
        if name not in UNPINNED:
            pins[name] = found.version
        for line in found.requires or ():
            child = Requirement(line)
            if child.marker is None or any(
                child.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                wanted.append(child)
    return pins


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

"""The distribution's extras, and the line for a module whose extra is not installed.

Imports nothing but the standard library.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version

DISTRIBUTION = "berth-vision"
"""The name that pip knows the project by; another `berth` has that name on PyPI."""
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "pynvml": "nvidia-ml-py"}
"""Modules that their distribution does not name."""
SMALLEST_FIRST = ("serve", "local", "tuning", "report", "image")
"""The extras by their megabytes, of those that hold a module."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z]+)['\"]")


def installed_version() -> str:
    """This project's version, or `checkout` where its folder is used without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "checkout"


def extra_missing(what: str, extra: str) -> str:
    """The line for something that needs an extra which is not installed.

    Args:
        what: what is missing, and for what.
        extra: its name in `pyproject.toml`.
    """
    return f"{what}: install it with: pip install '{DISTRIBUTION}[{extra}]'"


def module_missing(error: ModuleNotFoundError) -> str | None:
    """The line for a module that an extra brings; None if none does: a defect of this program."""
    module = (error.name or "").partition(".")[0]
    extra = _extra_with(NAMES.get(module, module))
    return None if extra is None else extra_missing(f"{module} is not installed", extra)


@contextmanager
def named_extra(command: str, extra: str) -> Iterator[None]:
    """What is imported here ends the command in one line where its extra is not installed.

    Args:
        command: the line's first word.
        extra: the extra with all that the command needs.

    Raises:
        SystemExit: a module of an extra is missing; the line goes to stderr.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if module_missing(error) is None:
            raise
        sys.exit(f"{command}: {extra_missing(f'{error.name} is not installed', extra)}")


def _extra_with(package: str) -> str | None:
    """The smallest extra that requires a package."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return None
    found = {match.groups() for match in map(_REQUIREMENT.match, lines) if match}
    offering = {extra for name, extra in found if _canonical(name) == _canonical(package)}
    return next((extra for extra in SMALLEST_FIRST if extra in offering), None)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

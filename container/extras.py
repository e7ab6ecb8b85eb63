"""The distribution's extras, and messages for modules whose extra is not installed.

Imports only the standard library.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version

DISTRIBUTION = "berth-vision"
"""The project's name for pip; `berth` belongs to another project."""
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "pynvml": "nvidia-ml-py"}
"""Distributions whose name differs from their module's, by module."""
SMALLEST_FIRST = ("serve", "local", "tuning", "report", "image")
"""The extras by size, to suggest the smallest one with a module."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*extra == ['\"]([a-z]+)['\"]")


def installed_version() -> str:
    """This project's version, or `checkout` if it is used without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "checkout"


def extra_missing(what: str, extra: str) -> str:
    """The message for something that needs an extra which is not installed.

    Args:
        what: what is missing.
        extra: its name in `pyproject.toml`.
    """
    return f"{what}: install it with: pip install '{DISTRIBUTION}[{extra}]'"


def module_missing(error: ModuleNotFoundError) -> str | None:
    """The message for a module of an extra; None if no extra has it, which is a bug."""
    module = (error.name or "").partition(".")[0]
    extra = _extra_with(NAMES.get(module, module))
    return None if extra is None else extra_missing(f"{module} is not installed", extra)


@contextmanager
def named_extra(command: str, extra: str) -> Iterator[None]:
    """Exit with a one-line message if an import within the block needs a missing extra.

    Args:
        command: the command's name, for the message.
        extra: the extra with everything the command needs.

    Raises:
        SystemExit: a module of an extra is missing; the message goes to stderr.
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

"""Generic checks of a request's fields."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from local.emulator.errors import ServiceError, invalid

ABSENT = object()


def value_at(request: Mapping[str, Any], path: str) -> Any:
    """The value at `A.B.C`; `ABSENT` if the request does not have it."""
    value: Any = request
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ABSENT
        value = value[name]
    return value


def refuse_present(request: Mapping[str, Any], paths: Mapping[str, str], where: str = "") -> None:
    """Reject fields that the local SageMaker does not support.

    Args:
        request: the request, or a part of it.
        paths: a field's path → what to do instead.
        where: prefix of the paths in the message.

    Raises:
        ServiceError: the request has one of the fields (and it is not False or empty).
    """
    for path, instead in paths.items():
        value = value_at(request, path)
        if value is not ABSENT and value not in (False, [], {}):
            raise unsupported(where + path, instead)


def unsupported(field: str, instead: str) -> ServiceError:
    """The error for a feature that the local SageMaker does not support."""
    return invalid(f"{field} is not supported by the local SageMaker; {instead}.")


def check_unique(field: str, names: Iterable[str]) -> None:
    """Check that names are unique.

    Raises:
        ServiceError: they are not.
    """
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise invalid(f"{field} has '{duplicates[0]}' more than once; expected unique names.")

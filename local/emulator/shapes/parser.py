"""Parses a request's JSON and validates it against SageMaker's service model.

botocore's client only validates types, names and required members. AWS's server also validates
lengths, patterns, enums and ranges; the messages here are AWS's.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from local.emulator.errors import ServiceError, invalid
from local.emulator.shapes.constraints import length_constraints, shown, text_constraints

Request = dict[str, Any]
"""A parsed request: the members of the operation's input shape, in Python's types."""

INTEGERS = {"integer": 31, "long": 63}
"""Bits of the API's integer types, excluding the sign."""


def parse(shape: Any, body: bytes) -> Request:
    """Parse a request's body; timestamps become datetimes, null members are dropped.

    Raises:
        ServiceError: `SerializationException` if the body is not a JSON object or a member has the
            wrong type; `ValidationException` with every violated constraint.
    """
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise _serialization_error(f"The request's body is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise _serialization_error(
            f"The request's body is a JSON {_json_type(value)}; expected an object."
        )
    return check(shape, value)


def check(shape: Any, value: dict[str, Any]) -> Request:
    """Validate a parsed JSON object in the same way. An operation without input has no shape.

    Raises:
        ServiceError: as `parse`.
    """
    if shape is None:
        return {}
    parser = _Parser()
    request: Request = parser.read(shape, value, "")
    if parser.problems:
        count = len(parser.problems)
        raise invalid(
            f"{count} validation error{'s' * (count > 1)} detected: " + "; ".join(parser.problems)
        )
    return request


class _Parser:
    """Parses a value by its shape and collects every violated constraint."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, shape: Any, value: Any, path: str) -> Any:
        reading: Callable[[Any, Any, str], Any] = getattr(self, f"_read_{shape.type_name}")
        return reading(shape, value, path)

    def _broken(self, path: str, value: object, constraint: str) -> None:
        self.problems.append(
            f"Value '{shown(value)}' at '{path}' failed to satisfy constraint: {constraint}"
        )

    def _read_structure(self, shape: Any, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(path, value, "a structure")
        result = {}
        for name, item in value.items():
            member = shape.members.get(name)
            if member is None:
                near = get_close_matches(name, shape.members, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                place = f"'{path}'" if path else "the request"
                self.problems.append(f"Unknown member '{name}' in {place}{meant}")
            elif item is not None:
                result[name] = self.read(member, item, _join(path, name))
        for name in shape.required_members:
            if name not in result:
                self.problems.append(
                    f"Value null at '{_join(path, name)}' failed to satisfy constraint: "
                    "Member must not be null"
                )
        return result

    def _read_list(self, shape: Any, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong_type(path, value, "a list")
        for constraint in length_constraints(shape, len(value)):
            self._broken(path, value, constraint)
        return [
            self.read(shape.member, item, f"{path}.{number}.member")
            for number, item in enumerate(value, 1)
        ]

    def _read_map(self, shape: Any, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(path, value, "a map")
        for constraint in length_constraints(shape, len(value)):
            self._broken(path, value, constraint)
        for key, item in value.items():
            if not isinstance(item, str):  # all maps of these operations have string values
                raise _wrong_type(f"{path}.{key}", item, "a string")
            for part, what, text in (("key", shape.key, key), ("value", shape.value, item)):
                if broken := text_constraints(what, text):
                    self._broken(
                        path,
                        f"{{{key}={item}}}",
                        f"Map {part} must satisfy constraint: [{', '.join(broken)}]",
                    )
        return dict(value)

    def _read_string(self, shape: Any, value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise _wrong_type(path, value, "a string")
        for constraint in text_constraints(shape, value):
            self._broken(path, value, constraint)
        return value

    def _read_boolean(self, _shape: Any, value: Any, path: str) -> bool:
        if not isinstance(value, bool):
            raise _wrong_type(path, value, "a boolean")
        return value

    def _read_integer(self, shape: Any, value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(path, value, "a whole number")
        if not -(2 ** INTEGERS[shape.type_name]) <= value < 2 ** INTEGERS[shape.type_name]:
            raise _wrong_type(path, value, f"a whole number of {INTEGERS[shape.type_name]} bits")
        self._check_range(shape, value, path)
        return value

    _read_long = _read_integer

    def _read_float(self, shape: Any, value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(path, value, "a number")
        if not math.isfinite(value):
            raise _wrong_type(path, value, "a finite number")
        self._check_range(shape, value, path)
        return float(value)

    _read_double = _read_float

    def _read_timestamp(self, _shape: Any, value: Any, path: str) -> datetime:
        try:
            if isinstance(value, bool):
                raise TypeError
            if isinstance(value, int | float):
                return datetime.fromtimestamp(value, UTC)
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError, OverflowError, OSError):
            raise _wrong_type(path, value, "a time as seconds since 1970 or ISO 8601") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _check_range(self, shape: Any, value: float, path: str) -> None:
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if high is not None and value > high:
            self._broken(path, value, f"Member must have value less than or equal to {high}")
        if low is not None and value < low:
            self._broken(path, value, f"Member must have value greater than or equal to {low}")


def _join(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _json_type(value: object) -> str:
    kinds = {str: "string", bool: "boolean", int: "number", float: "number", list: "list"}
    return "null" if value is None else kinds.get(type(value), "object")


def _serialization_error(message: str) -> ServiceError:
    return ServiceError("SerializationException", message)


def _wrong_type(path: str, value: object, expected: str) -> ServiceError:
    return _serialization_error(
        f"'{path}' is the {_json_type(value)} '{shown(value)}' in the request; expected {expected}."
    )

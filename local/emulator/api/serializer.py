"""Serializes a response to JSON by SageMaker's service model."""

import json
from datetime import datetime
from typing import Any

Response = dict[str, Any] | None
"""An operation's response, with Python types; None for an empty response."""

SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (datetime,),
}


class InvalidResponse(Exception):
    """A response does not have the API's shape, which is a bug in the emulator."""


def serialize(shape: Any, response: Response) -> bytes:
    """The response's body; empty for an operation without an output shape.

    Times become Unix timestamps in milliseconds' precision, as on AWS; members that are None are
    dropped.

    Raises:
        InvalidResponse: a member is unknown or has the wrong type.
    """
    if shape is None:
        return b""
    return json.dumps(_to_json(shape, response or {}, shape.name)).encode()


def _to_json(shape: Any, value: Any, path: str) -> Any:
    match shape.type_name, value:
        case "structure", dict():
            if unknown := value.keys() - shape.members.keys():
                raise InvalidResponse(f"{path} has no member {', '.join(sorted(unknown))}")
            return {
                name: _to_json(shape.members[name], item, f"{path}.{name}")
                for name, item in value.items()
                if item is not None
            }
        case "list", list():
            return [_to_json(shape.member, item, f"{path}[{i}]") for i, item in enumerate(value)]
        case "map", dict():
            return {
                _to_json(shape.key, key, path): _to_json(shape.value, item, f"{path}[{key}]")
                for key, item in value.items()
            }
    if shape.type_name not in SCALARS or not isinstance(value, SCALARS[shape.type_name]):
        raise InvalidResponse(f"{path} is a {shape.type_name}, not {value!r}")
    return round(value.timestamp(), 3) if isinstance(value, datetime) else value

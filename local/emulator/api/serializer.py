"""An answer as the JSON of SageMaker's model."""

import json
from datetime import datetime
from typing import Any

SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (datetime,),
}


class WrongAnswer(Exception):
    """An answer that does not have the shape the API promises: a bug of ours."""


def serialise(shape: Any, value: dict[str, Any] | None) -> bytes:
    """The answer's body; empty for an operation that answers nothing.

    Times become seconds since 1970, to the millisecond as AWS gives them; members that are None
    are left out.

    Raises:
        WrongAnswer: a member the shape does not have, or one of a wrong type.
    """
    if shape is None:
        return b""
    return json.dumps(_plain(shape, value or {}, shape.name)).encode()


def _plain(shape: Any, value: Any, path: str) -> Any:
    match shape.type_name, value:
        case "structure", dict():
            if unknown := value.keys() - shape.members.keys():
                raise WrongAnswer(f"{path} has no member {', '.join(sorted(unknown))}")
            return {
                name: _plain(shape.members[name], item, f"{path}.{name}")
                for name, item in value.items()
                if item is not None
            }
        case "list", list():
            return [_plain(shape.member, item, f"{path}[{i}]") for i, item in enumerate(value)]
        case "map", dict():
            return {
                _plain(shape.key, key, path): _plain(shape.value, item, f"{path}[{key}]")
                for key, item in value.items()
            }
    if shape.type_name not in SCALARS or not isinstance(value, SCALARS[shape.type_name]):
        raise WrongAnswer(f"{path} is a {shape.type_name}, not {value!r}")
    return round(value.timestamp(), 3) if isinstance(value, datetime) else value

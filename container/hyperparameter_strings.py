"""Hyperparameters as the strings that SageMaker passes: to values, and into error messages."""

import json
from typing import Any

from pydantic.fields import FieldInfo


def decode(raw: Any, *, text: bool) -> Any:
    """A JSON-encoded or plain string as a value; `text` keeps `123` a string."""
    if not isinstance(raw, str):
        return str(raw) if text else raw
    try:
        value = json.loads(raw)
    except ValueError:
        return raw.strip()
    if isinstance(value, str):
        # A number may be quoted twice.
        return value.strip() if text or value == raw else decode(value, text=False)
    return raw.strip() if text else value


def expected(field: FieldInfo) -> str:
    """The expected value, from the hyperparameter's description."""
    return f"another kind of value: {field.description}"


def short(value: Any) -> str:
    """A value for a line, cut short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def sentence(problem: Any) -> str:
    """One of pydantic's errors as a line: the name, what is expected, the value found."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name, found = problem["loc"][0], short(problem["input"])
    return f"hyperparameter {name!r}: {message[:1].lower()}{message[1:]}, found {found}"

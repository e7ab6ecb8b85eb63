"""Validation of values against the constraints of a service model, with AWS's messages."""

import json
import re
from difflib import get_close_matches
from functools import cache
from typing import Any

SHOWN = 256
"""Most characters of an invalid value in a message."""

LISTED = 20
"""Most allowed values in a message; if there are more, it lists the most similar ones."""

SPACES = "\\u0020\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
"""Unicode's category Z, for which `re` has no class."""

JAVA = (
    (r"\p{L}", r"\w"),
    (r"\p{N}", ""),
    (r"\p{Z}", SPACES),
    (r"\p{Alnum}", "a-zA-Z0-9"),
    (r"\p{ASCII}", r"[\x00-\x7f]"),
    (r"\p{Print}", r"\x20-\x7e"),
    (r"\z", r"\Z"),
)
"""Java syntax (java.util.regex.Pattern) in the model's patterns, and its equivalent in `re`."""

UNUSABLE = re.compile("[\\0\ud800-\udfff]")
"""Characters that JSON allows, but environment variables, file names and UTF-8 do not."""


def text_constraints(shape: Any, value: str) -> list[str]:
    """The constraints of a string shape that a text violates, in AWS's words."""
    broken = length_constraints(shape, len(value))
    if allowed := shape.metadata.get("enum"):
        if value not in allowed:
            broken.append(f"Member must satisfy enum value set: [{_choices(value, allowed)}]")
        return broken
    if UNUSABLE.search(value):
        broken.append("Member must not contain NUL or a lone surrogate")
    if pattern := shape.metadata.get("pattern"):
        here = pattern.startswith("(https|s3)://") and value.startswith("file:///")
        if not here and not _compiled(pattern).fullmatch(value):
            broken.append(f"Member must satisfy regular expression pattern: {pattern}")
    return broken


def length_constraints(shape: Any, length: int) -> list[str]:
    """The constraints on the length of a string, list or map that are violated."""
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    broken = []
    if high is not None and length > high:
        broken.append(f"Member must have length less than or equal to {high}")
    if low is not None and length < low:
        broken.append(f"Member must have length greater than or equal to {low}")
    return broken


def _choices(value: str, allowed: list[str]) -> str:
    if len(allowed) <= LISTED:
        return ", ".join(allowed)
    near = get_close_matches(value, allowed, 5, cutoff=0) or allowed[:5]
    return f"{', '.join(near)}, and {len(allowed) - len(near)} more"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the model, which has Java's syntax."""
    for name, replacement in JAVA:
        pattern = pattern.replace(name, replacement)
    return re.compile(pattern)


def shown(value: object) -> str:
    """A value for a message, cut to `SHOWN` characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"

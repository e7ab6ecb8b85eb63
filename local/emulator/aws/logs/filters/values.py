"""Comparisons in filter patterns: with text and wildcards, numbers, regular expressions."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import regex

from local.emulator.errors import ServiceError

LONGEST = 1024
"""Most characters of a pattern (API reference, FilterLogEvents)."""
MOST_EXPRESSIONS = 2
"""Most regular expressions in a JSON or space-delimited pattern (user guide)."""
EXPRESSION = re.compile(r"[A-Za-z0-9:_#=@/;,\-^$?\[\]{}|\\*+. ]+")
"""Characters of a regular expression; no parentheses (user guide, "Supported regex syntax")."""
PATIENCE = 0.25
"""Most seconds a regular expression may take for one event."""
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Literal:
    """A value in a pattern.

    Attributes:
        text: the value without quotes or percent signs.
        kind: its notation.
    """

    text: str
    kind: str  # quoted, plain or expression


def refused(reason: str) -> ServiceError:
    """The error for an invalid pattern, with AWS's code."""
    return ServiceError("InvalidParameterException", f"Invalid filter pattern: {reason}")


def compile_regex(text: str) -> Callable[[str], bool]:
    """Compile `%text%` to a function that returns whether a string contains a match.

    Raises:
        ServiceError: it is not a regular expression, or one that CloudWatch Logs does not support.
    """
    if not EXPRESSION.fullmatch(text):
        raise refused(
            f"the regular expression %{text}% has characters that are not supported; expected "
            "letters, digits, : _ # = @ / ; , - and the operators ^ $ ? [ ] { } | \\ * + ."
        )
    try:
        pattern = regex.compile(text)
    except regex.error as error:
        raise refused(f"%{text}% is no regular expression: {error}") from None

    def search(value: str) -> bool:
        try:
            return pattern.search(value, timeout=PATIENCE, concurrent=True) is not None
        except TimeoutError:
            raise refused(
                f"the regular expression %{text}% took over {PATIENCE} s on one event"
            ) from None

    return search


def compare(comparison: str, literal: Literal) -> Test:
    """Compile a comparison with a literal to a function of a value.

    Raises:
        ServiceError: the literal does not support this comparison.
    """
    if literal.kind == "expression":
        if comparison not in ("=", "!="):
            raise refused(f"%{literal.text}% is compared with {comparison}; expected = or !=")
        search = compile_regex(literal.text)
        return lambda value: search(as_text(value)) == (comparison == "=")
    number = _number(literal.text) if literal.kind == "plain" else None
    if comparison in ("=", "!="):
        wild = wildcard(literal.text)

        def same(value: Any) -> bool:
            if number is not None and _number(as_text(value)) == number:
                return True
            return wild(as_text(value))

        return lambda value: same(value) == (comparison == "=")
    if number is None:
        raise refused(f"{comparison} is followed by '{literal.text}'; expected a number")
    limit = number

    def ordered(value: Any) -> bool:
        own = None if isinstance(value, bool) else _number(as_text(value))
        return own is not None and COMPARISONS[comparison](own, limit)

    return ordered


def wildcard(text: str) -> Callable[[str], bool]:
    """Compile a text, in which `*` matches anything, to a function that matches whole strings."""
    if "*" not in text:
        return lambda value: value == text
    parts = (re.escape(part) for part in text.split("*"))
    pattern = re.compile(".*".join(parts), re.DOTALL)
    return lambda value: pattern.fullmatch(value) is not None


def as_text(value: Any) -> str:
    """A JSON value in the notation of patterns."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

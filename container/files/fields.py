"""Typed access to the fields of an untrusted JSON object.

fields = Fields(json.loads(text))
fields.whole("image_size", low=1)      # FieldError: "image_size: found 'big', expected ..."
"""

import math
from collections.abc import Mapping
from typing import Any


class FieldError(ValueError):
    """A field's value is invalid; the message has the field, the value and what was expected."""


class Fields:
    """Typed access to an object. Every method raises FieldError."""

    def __init__(self, value: object, name: str = "") -> None:
        if not isinstance(value, dict):
            raise _error(name or "the document", value, "an object")
        self._value: Mapping[str, Any] = value
        self._prefix = f"{name}." if name else ""

    def has(self, name: str) -> bool:
        """Whether the field exists and is not null."""
        return self._value.get(name) is not None

    def text(self, name: str) -> str:
        """A string that is not blank."""
        found = self._get(name)
        if not isinstance(found, str) or not found.strip():
            raise self._wrong(name, "a name")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of distinct strings that are not blank."""
        found = self._get(name)
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise self._wrong(name, "a list of names")
        seen: set[str] = set()
        for word in found:
            if not word.strip() or word in seen:
                kind = "twice" if word in seen else "a blank name"
                raise FieldError(
                    f"{self._prefix}{name}: found {_shown(word)} {kind}, "
                    "expected names that differ and are not blank"
                )
            seen.add(word)
        return tuple(found)

    def whole(self, name: str, *, low: int, high: int = 2**31 - 1) -> int:
        """A whole number from `low` to `high`."""
        found = self._get(name)
        if not _is_whole(found) or not low <= found <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return int(found)

    def wholes(self, name: str, *, low: int) -> tuple[int, ...]:
        """A list of whole numbers from `low`."""
        found = self._get(name)
        if not isinstance(found, list) or not all(_is_whole(n) and n >= low for n in found):
            raise self._wrong(name, f"a list of whole numbers from {low}")
        return tuple(found)

    def number(self, name: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from `low` to `high`."""
        found = self._get(name)
        if not _is_finite(found) or not low <= found <= high:
            between = "" if low == -math.inf else f" from {low:g}"
            between += "" if high == math.inf else f" to {high:g}"
            raise self._wrong(name, f"a finite number{between}")
        return float(found)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        found = self._get(name)
        if not isinstance(found, list) or not all(map(_is_finite, found)):
            raise self._wrong(name, "a list of finite numbers")
        return tuple(float(number) for number in found)

    def three(self, name: str, *, positive: bool = False) -> tuple[float, float, float]:
        """Three finite numbers, one per channel; all above zero if `positive`."""
        found = self._get(name)
        if (
            not isinstance(found, list)
            or len(found) != 3
            or not all(_is_finite(n) and (n > 0 or not positive) for n in found)
        ):
            what = "finite numbers above 0" if positive else "finite numbers"
            raise self._wrong(name, f"three {what}, one for each channel")
        red, green, blue = (float(n) for n in found)
        return red, green, blue

    def object(self, name: str) -> "Fields":
        """A nested object."""
        return Fields(self._get(name), f"{self._prefix}{name}")

    def items(self) -> dict[str, Any]:
        """The object as a dictionary."""
        return dict(self._value)

    def _get(self, name: str) -> Any:
        if name not in self._value:
            raise FieldError(f"{self._prefix}{name}: found nothing, expected a value")
        return self._value[name]

    def _wrong(self, name: str, expected: str) -> FieldError:
        return _error(f"{self._prefix}{name}", self._value[name], expected)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _error(name: str, found: object, expected: str) -> FieldError:
    return FieldError(f"{name}: found {_shown(found)}, expected {expected}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # An integer of more digits than Python writes.
        return "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."

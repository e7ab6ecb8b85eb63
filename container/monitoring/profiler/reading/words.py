"""Texts of a recording: each kept once, and fit to be shown and written.

JSON can hold half a surrogate pair, which no file can, and a host's name the end of a line.
"""

from typing import Any

LATEST = 1e11
"""Unix seconds (in the year 5138): what claims to be later was damaged."""


class Words(dict[str, int]):
    """The number of a text, by the text as it was recorded; `texts` holds what they number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        """Every different text, by its number."""
        return list(self._numbers)

    def __missing__(self, recorded: str) -> int:
        """A text seen for the first time."""
        number = self._numbers.setdefault(printable(recorded), len(self._numbers))
        self[recorded] = number
        return number


def printable(text: str) -> str:
    """A text in one line, with a question mark for what cannot be shown."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def writable(value: Any) -> Any:
    """A JSON value whose texts can be written to a file."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [writable(each) for each in value]
    if isinstance(value, dict):
        return {writable(key): writable(each) for key, each in value.items()}
    return value

"""Texts of a recording: each kept once, and fit to be shown and written.

JSON can hold half a surrogate pair, which no file can, and a host's name the end of a line.
"""

import re
from collections import defaultdict
from typing import Any

LATEST = 1e11
"""Unix seconds (in the year 5138): what claims to be later was damaged."""

SHOWN = 3
"""How many places are named of those that have the same problem."""


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


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that orders `algo-2` before `algo-10`."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", text)]


def writable(value: Any) -> Any:
    """A JSON value whose texts can be written to a file."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [writable(each) for each in value]
    if isinstance(value, dict):
        return {writable(key): writable(each) for key, each in value.items()}
    return value


class RecordingWarnings:
    """Collects problems of a recording, each with its places."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)

    def note(self, problem: str, place: str = "") -> None:
        """Add a problem of `place` (a file or node), or of the whole recording if it is empty."""
        self._places[problem].append(place)

    def lines(self) -> tuple[str, ...]:
        """A line each, in the order in which they were found."""
        found = []
        for problem, places in self._places.items():
            found += [f"{place}: {problem}" if place else problem for place in places[:SHOWN]]
            if len(places) > SHOWN:
                found.append(f"{len(places) - SHOWN:,} more files: {problem}")
        return tuple(map(printable, found))

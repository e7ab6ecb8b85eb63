"""What was wrong with a recording, in plain words and without a thousand lines of the same."""

from collections import defaultdict

from container.monitoring.profiler.reading.words import printable

SHOWN = 3
"""How many places are named of those that have the same problem."""


class Problems:
    """Gathers what could not be read: each problem with the places that have it."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)

    def note(self, problem: str, place: str = "") -> None:
        """Remember that `place` (a file, a node) has a problem; none if it is the recording's."""
        self._places[problem].append(place)

    def lines(self) -> tuple[str, ...]:
        """A line each, in the order in which they were found."""
        found = []
        for problem, places in self._places.items():
            found += [f"{place}: {problem}" if place else problem for place in places[:SHOWN]]
            if len(places) > SHOWN:
                found.append(f"{len(places) - SHOWN:,} more files: {problem}")
        return tuple(map(printable, found))

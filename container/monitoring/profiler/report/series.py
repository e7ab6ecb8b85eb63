"""Series reduced for drawing: binned by time or step and rounded, with gaps where data are
missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 600
"""Points of a line at most; about as many as a chart has pixels across."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clock:
    """Time since a job's start, in the unit its length calls for.

    Attributes:
        start: unix seconds.
        end: unix seconds.
    """

    start: float
    end: float

    @property
    def unit(self) -> tuple[str, float]:
        """The unit's name and its seconds."""
        span = self.end - self.start
        if span < 180:
            return "seconds", 1.0
        if span < 3 * 3600:
            return "minutes", 60.0
        return ("hours", 3600.0) if span < 4 * 86400 else ("days", 86400.0)

    @property
    def title(self) -> str:
        """The time axis's title."""
        return f"{self.unit[0]} since the start"

    def axis(self) -> dict[str, Any]:
        """Plotly's time axis, the whole job long."""
        return {
            "title": {"text": self.title},
            "range": rounded(self.at(np.array([self.start, self.end]))),
        }

    def at(self, times: Floats) -> Floats:
        """Unix seconds in this clock's unit."""
        return (times - self.start) / self.unit[1]

    def edges(self, bins: int = BINS) -> Floats:
        """The borders of equal bins over the job."""
        return spaced(self.start, max(self.end, self.start + 1e-3), bins)


def spaced(start: float, end: float, bins: int) -> Floats:
    """The borders of so many equal bins."""
    return np.linspace(start, end, bins + 1, dtype=np.float64)


def line(clock: Clock, times: Floats, values: Floats) -> tuple[list[Any], list[Any]]:
    """A series over time: as it is where it is short, else the mean of each of `BINS` bins."""
    if len(times) <= 1.5 * BINS:
        return rounded(clock.at(times)), rounded(values)
    edges = clock.edges()
    middles = (edges[:-1] + edges[1:]) / 2
    return rounded(clock.at(middles)), rounded(means(times, values, edges))


def means(at: Floats, values: Floats, edges: Floats) -> Floats:
    """The mean in each bin; NaN where there is nothing."""
    total, count = sums(at, values, edges), sums(at, np.ones_like(values), edges)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count, dtype=np.float64)


def sums(at: Floats, values: Floats, edges: Floats) -> Floats:
    """The sum in each bin; what is not finite or outside is left out."""
    bins = len(edges) - 1
    place = np.searchsorted(edges, at, side="right") - 1
    place[at == edges[-1]] = bins - 1
    good = (place >= 0) & (place < bins) & np.isfinite(values)
    return np.bincount(place[good], weights=values[good], minlength=bins).astype(np.float64)


def step_quantiles(
    steps: Floats, values: Floats, bins: int = 400
) -> tuple[Floats, Floats, Floats, Floats]:
    """Over the course of training: middles of equal runs of steps, and their p5, p50 and p95."""
    order = np.argsort(steps, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    figures = [(steps[p].mean(), *np.quantile(values[p], [0.05, 0.5, 0.95])) for p in parts]
    middle, low, half, high = np.array(figures, dtype=np.float64).T
    return middle, low, half, high


def rounded(values: Floats | Sequence[float], digits: int = 4) -> list[Any]:
    """A list with so many digits that count; None for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    out: list[Any] = []
    for value in array.tolist():
        if not np.isfinite(value):
            out.append(None)
            continue
        short = float(f"{value:.{digits}g}")
        out.append(int(short) if short.is_integer() and abs(short) < 1e15 else short)
    return out


def box(values: Floats) -> dict[str, list[Any]]:
    """A box plot's five figures: its whiskers end at the 5th and 95th percentile."""
    low, q1, middle, q3, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    found = {"lowerfence": low, "q1": q1, "median": middle, "q3": q3, "upperfence": high}
    return {name: rounded([value]) for name, value in found.items()}

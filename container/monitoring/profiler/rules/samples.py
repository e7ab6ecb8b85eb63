"""A recording as rules look at it: a table of points for every node and metric, and when they look.

A point is what a node's agent measured at one time; its threads measure some milliseconds apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from container.monitoring.profiler.reading.ranks import natural
from container.monitoring.profiler.recording import Recording

CPU, IO_WAIT = "CPUUtilization", "I/OWaitPercentage"
GPU, GPU_MEMORY = "GPUUtilization", "GPUMemoryUtilization"
SNAPSHOT = 0.02
"""Seconds between samples that are one point, at the least; SageMaker's agent needs no more."""
LOOKS = 500
"""A rule looks at a recording at most so often, however short its scan interval is."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """One metric of one node.

    Attributes:
        times: (n,) unix seconds, ascending.
        names: of the k cores, GPUs or interfaces.
        values: (n, k); NaN where one was not measured.
    """

    times: Floats
    names: tuple[str, ...]
    values: Floats

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.times)

    @classmethod
    def of(cls, rows: pd.DataFrame | None) -> "Points":
        """The points that rows of `Recording.system` make; none for no rows."""
        if rows is None or rows.empty:
            return cls(np.empty(0), (), np.empty((0, 0)))
        times = rows["time"].to_numpy()
        codes, names = pd.factorize(rows["name"])
        order = sorted(range(len(names)), key=lambda at: natural(str(names[at])))
        place = np.empty(len(names), np.int64)
        place[order] = np.arange(len(names))
        unique = np.unique(times)
        starts = unique[_snapshots(unique, _usual(times[codes == codes[0]]))]
        values = np.full((len(starts), len(names)), np.nan)
        values[np.searchsorted(starts, times, side="right") - 1, place[codes]] = rows["value"]
        return cls(starts, tuple(str(names[at]) for at in order), values)


class View:
    """A recording, arranged for rules; tables are made once and shared between them.

    Attributes:
        recording: what is looked at.
        nodes: those with system metrics, in their natural order.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        system = recording.system
        self.nodes = tuple(sorted(map(str, system["node"].unique()), key=natural))
        self._rows: dict[tuple[str, str], pd.DataFrame] = {}
        for (node, dimension), rows in system.groupby(["node", "dimension"], observed=True):
            self._rows[str(node), str(dimension)] = rows
        self._points: dict[tuple[str, str], Points] = {}

    @cached_property
    def begin(self) -> float:
        """Unix seconds at which rules begin to look: the first of what was recorded."""
        return min(
            (
                float(column.min())
                for column in (self.recording.system["time"], self.recording.events["start"])
                if len(column)
            ),
            default=0.0,
        )

    @cached_property
    def has_gpus(self) -> bool:
        """Whether any node measured GPUs."""
        return any(dimension == GPU for _, dimension in self._rows)

    def points(self, node: str, dimension: str) -> Points:
        """A metric of a node; no points if it was not measured."""
        key = node, dimension
        if key not in self._points:
            self._points[key] = Points.of(self._rows.get(key))
        return self._points[key]

    def together(self, node: str, *dimensions: str) -> tuple[Floats, list[Floats]]:
        """Several metrics of a node at common points.

        Returns:
            (n,) times, and for every dimension (n, k) values, NaN where it was not measured then.
        """
        tables = [self.points(node, dimension) for dimension in dimensions]
        times = np.unique(np.concatenate([table.times for table in tables]))
        starts = _snapshots(times, min((_usual(table.times) for table in tables), default=0.0))
        common: Floats = times[starts]
        found: list[Floats] = []
        for table in tables:
            values = np.full((len(common), len(table.names)), np.nan)
            values[np.searchsorted(common, table.times, side="right") - 1] = table.values
            found.append(values)
        return common, found

    def looks(self, times: Floats, parameters: Any) -> Indices:
        """How much of a series a rule has seen at each of its looks.

        Args:
            times: (n,) unix seconds, ascending.
            parameters: the rule's, with `scan_interval_us`.

        Returns:
            (looks,) ascending counts, the last n; only looks that see something new, at most
            `LOOKS`. None for an empty series.
        """
        if not len(times):
            return np.empty(0, np.int64)
        interval = max(1e-6, float(parameters["scan_interval_us"]) / 1e6)
        scans = np.floor((times - self.begin) / interval)
        counts = np.append(np.flatnonzero(np.diff(scans)) + 1, len(times)).astype(np.int64)
        if len(counts) > LOOKS:
            counts = counts[np.linspace(0, len(counts) - 1, LOOKS).round().astype(np.int64)]
        return counts


def quartiles(values: Floats) -> dict[str, float]:
    """A box plot's figures: p25, p50, p75, p95, and whiskers within 1.5 interquartile ranges."""
    p25, p50, p75, p95 = (float(found) for found in np.quantile(values, (0.25, 0.5, 0.75, 0.95)))
    reach = 1.5 * (p75 - p25)
    return {
        "p25": p25,
        "p50": p50,
        "p75": p75,
        "p95": p95,
        "upper": min(p75 + reach, float(values.max())),
        "lower": max(p25 - reach, float(values.min())),
    }


def present(values: Floats) -> Floats:
    """(n,) without what was not measured."""
    return np.asarray(values[~np.isnan(values)], np.float64)


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names in a sentence: the first few, and how many more."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _usual(times: Floats) -> float:
    """The usual time between points, in seconds; 0 for fewer than two."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _snapshots(times: Floats, usual: float) -> NDArray[np.bool_]:
    """Which of (n,) ascending times begin a point; the others belong to the one before."""
    gap = max(SNAPSHOT, usual / 4)
    return np.append(True, np.diff(times) > gap)[: len(times)]

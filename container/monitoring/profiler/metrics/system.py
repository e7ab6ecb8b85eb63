"""Utilization of every machine: one series per node and metric, and its statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from container.monitoring.profiler.metrics.statistics import Floats, pick
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.reading.text import natural

CORES = {"CPUUtilization": "CPU", "I/OWaitPercentage": "I/O wait"}
"""Measured once a core; a node's figure is the mean over its cores."""
BUSIEST, WAITING = "busiest core", "I/O wait, worst core"
"""The highest of a node's cores at each sample: what the bottleneck rules look at."""
_HIGHEST = {"CPU": BUSIEST, "I/O wait": WAITING}
GPUS = {"GPUUtilization": "GPU", "GPUMemoryUtilization": "GPU memory"}
ORDER = ("CPU", "I/O wait", "memory", "GPU", "GPU memory")
"""The percentages, as tables and charts list them; anything else follows."""
_FLOWS = {
    "ReceiveBytesPerSecond": "network received",
    "TransmitBytesPerSecond": "network sent",
    "ReadThroughputInBytesPerSecond": "disk read",
    "WriteThroughputInBytesPerSecond": "disk written",
    "IOPS": "disk operations",
}

CPU, IO_WAIT = "CPUUtilization", "I/OWaitPercentage"
GPU, GPU_MEMORY = "GPUUtilization", "GPUMemoryUtilization"
SNAPSHOT = 0.02
"""Seconds between samples that are one point, at the least; SageMaker's agent needs no more."""
LOOKS = 500
"""A rule looks at a recording at most so often, however short its scan interval is."""

Indices = NDArray[np.int64]


def measured(system: pd.DataFrame) -> pd.DataFrame:
    """A node's series, its cores put together.

    Args:
        system: time, node, kind, name, dimension, value; as `Recording.system`.

    Returns:
        node, metric (`ORDER`, `BUSIEST`, `WAITING`, or what else was measured), name (gpu0;
        "" for the whole node), unit (% or B/s or B), time (unix seconds) and value, by time.
    """
    parts = []
    for (node, kind, dimension), rows in system.groupby(
        ["node", "kind", "dimension"], observed=True, sort=False
    ):
        if kind == "cpu":
            label = CORES.get(str(dimension), str(dimension))
            mean, highest = _over_cores(rows)
            parts.append(mean.assign(node=str(node), metric=label, name="", unit="%"))
            if label in _HIGHEST:
                metric = _HIGHEST[label]
                parts.append(highest.assign(node=str(node), metric=metric, name="", unit="%"))
            continue
        for name, one in rows.groupby("name", observed=True, sort=False):
            label, unit = _label(str(kind), str(dimension), str(name))
            shown = str(name) if kind == "gpu" else ""
            parts.append(
                one[["time", "value"]].assign(node=str(node), metric=label, name=shown, unit=unit)
            )
    if not parts:
        return pd.DataFrame(columns=["time", "value", "node", "metric", "name", "unit"])
    together = pd.concat(parts, ignore_index=True)
    for column in ("node", "metric", "name", "unit"):
        together[column] = together[column].astype("category")
    return together.sort_values("time", kind="stable", ignore_index=True)


def system_metrics(series: pd.DataFrame) -> list[dict[str, Any]]:
    """Per node and metric: max, p99, p95, p50, min, mean, and how many samples; of `measured`."""
    rows = []
    keys = ["node", "metric", "name", "unit"]
    for (node, metric, name, unit), group in series.groupby(keys, observed=True, sort=False):
        values = group["value"].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        rows.append(
            {"node": node, "metric": metric, "name": name, "unit": unit, "samples": len(values)}
            | pick(values, "max", "p99", "p95", "p50", "min", "mean")
        )
    return sorted(rows, key=_place)


def statistic(rows: list[dict[str, Any]], metric: str, which: str) -> float | None:
    """One statistic of a metric, the mean over nodes and GPUs; None where it was not measured."""
    found = [row[which] for row in rows if row["metric"] == metric]
    return float(np.mean(found)) if found else None


def interval(times: "pd.Series[float]") -> float | None:
    """The usual distance in seconds between two samples of one thing."""
    distances = np.diff(np.unique(times.to_numpy(dtype=float)))
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else None


def _over_cores(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and maximum over a node's cores at every sample, whose times may differ a little."""
    first = rows["name"].iloc[0]
    spacing = interval(rows.loc[rows["name"] == first, "time"]) or 1.0
    slot = np.round((rows["time"] - rows["time"].min()) / spacing).astype(np.int64)
    grouped = rows.groupby(slot.to_numpy())
    mean = grouped[["time", "value"]].mean().reset_index(drop=True)
    return mean, mean.assign(value=grouped["value"].max().to_numpy())


def _label(kind: str, dimension: str, name: str) -> tuple[str, str]:
    """The name of a series, and its unit."""
    if kind == "gpu":
        return GPUS.get(dimension, dimension), "%"
    if kind == "memory":
        return "memory", "%"
    words = _FLOWS.get(name) or " ".join(dict.fromkeys(filter(None, (kind, name, dimension))))
    if "bytespersecond" in f"{name}{dimension}".replace(" ", "").lower():
        return words, "B/s"
    if kind == "network":
        return words, "B"
    return words, "/s" if name == "IOPS" else ""


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    metric = row["metric"]
    order = ("CPU", BUSIEST, "I/O wait", WAITING, *ORDER[2:])
    rank = order.index(metric) if metric in order else len(order)
    return natural(row["node"]), rank, metric, natural(row["name"])


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
        """Number of points."""
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


class Samples:
    """System metrics as tables of points, a node and metric each; made once, when first read.

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

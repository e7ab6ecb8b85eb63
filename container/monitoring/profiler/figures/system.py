"""How much of every machine was used: one series a node and metric, and its statistics."""

from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.figures.job import natural

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
QUANTILES = {"p99": 0.99, "p95": 0.95, "p50": 0.50}


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


def system_figures(series: pd.DataFrame) -> list[dict[str, Any]]:
    """Per node and metric: max, p99, p95, p50, min, mean, and how many samples; of `measured`."""
    rows = []
    keys = ["node", "metric", "name", "unit"]
    for (node, metric, name, unit), group in series.groupby(keys, observed=True, sort=False):
        values = group["value"].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        quantiles = np.quantile(values, list(QUANTILES.values()))
        rows.append(
            {"node": node, "metric": metric, "name": name, "unit": unit, "samples": len(values)}
            | {"max": float(values.max())}
            | dict(zip(QUANTILES, map(float, quantiles), strict=True))
            | {"min": float(values.min()), "mean": float(values.mean())}
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
    """What a series is called, and its unit."""
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

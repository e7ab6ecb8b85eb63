"""Rules about what GPUs wait for: the CPU, or data from disks and networks."""

from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.statistics import Floats
from container.monitoring.profiler.metrics.system import CPU, GPU, IO_WAIT
from container.monitoring.profiler.outcome import NO_GPU, Findings, RuleOutcome, unjudged
from container.rules.requests import RuleRequest

LISTED = 1000
"""How many points an outcome lists one by one."""
PERIODS = 200
"""How many spans of consecutive points it lists, the longest ones."""


def cpu_bottleneck(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires while more than `threshold` % of the points are bottlenecks.

    A bottleneck is a point at which a GPU is below `gpu_threshold` and a core above
    `cpu_threshold`: one core suffices, for one thread can hold a GPU up. Violations are
    bottlenecks.
    """
    return _bottleneck(
        metrics, request, CPU, "cpu_threshold", "a core was busy", "processor metrics"
    )


def io_bottleneck(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires while more than `threshold` % of the points are bottlenecks.

    A bottleneck is a point at which a GPU is below `gpu_threshold` and a core waits for input and
    output more than `io_threshold` % of its time. Violations are bottlenecks.
    """
    return _bottleneck(
        metrics, request, IO_WAIT, "io_threshold", "a core waited for data", "I/O wait metrics"
    )


def _bottleneck(
    metrics: ProfileMetrics,
    request: RuleRequest,
    dimension: str,
    limit: str,
    cause: str,
    metric: str,
) -> RuleOutcome:
    parameters = request.parameters
    found = Findings()
    points = low = bottlenecks = 0
    shares: dict[str, float] = {}
    listed: dict[str, dict[str, int]] = {}
    periods: list[list[Any]] = []
    doing: dict[str, float] = {}
    for node in metrics.samples.nodes:
        times, (gpu, cores) = metrics.samples.together(node, GPU, dimension)
        if not gpu.size or not cores.size:
            continue
        points = max(points, len(times))
        idle = (gpu < parameters["gpu_threshold"]).sum(axis=1)
        busy = (cores > parameters[limit]).sum(axis=1)
        held = (idle > 0) & (busy > 0)
        low += int((idle > 0).sum())
        bottlenecks += int(held.sum())
        so_far = np.cumsum(held)
        for seen in metrics.samples.looks(times, parameters):
            share = 100 * so_far[seen - 1] / seen
            if seen >= parameters["patience"] and share > parameters["threshold"]:
                found.fire(float(times[seen - 1]))
        shares[node] = 100 * float(held.mean())
        for at in np.flatnonzero(held)[:LISTED]:
            listed.setdefault(
                repr(float(times[at])), {"GPUs": int(idle[at]), "CPUs": int(busy[at])}
            )
        periods += [[node, *span] for span in _spans(times, held)]
        for phase, count in _doing(metrics.recording.events, node, times[held]).items():
            doing[phase] = doing.get(phase, 0.0) + count
    missing = unjudged(
        request,
        points,
        parameters["patience"],
        f"no {metric} in this job" if metrics.samples.has_gpus else NO_GPU,
    )
    if missing:
        return missing
    total = sum(doing.values())
    found.details = {
        "low_gpu_utilization": low,
        "bottlenecks": dict(list(listed.items())[:LISTED]),
        "shares": shares,
        "periods": sorted(periods, key=lambda span: span[1] - span[2])[:PERIODS],
        "general": {phase: 100 * count / total for phase, count in doing.items()},
    }
    worst = max(shares, key=lambda node: shares[node])
    reason = (
        f"at {shares[worst]:.1f} % of the points on {worst} {cause} "
        f"(over {parameters[limit]:g} %) and a GPU was not "
        f"(below {parameters['gpu_threshold']:g} %); limit {parameters['threshold']:g} %"
    )
    return found.outcome(
        request, reason, points=points, needed=parameters["patience"], violations=bottlenecks
    )


def _spans(times: Floats, held: Any) -> list[list[float]]:
    """First and last time, [unix s, unix s], of consecutive points that are bottlenecks."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], held.astype(np.int8), [0]))))
    return [[float(times[a]), float(times[b - 1])] for a, b in edges.reshape(-1, 2)]


def _doing(events: pd.DataFrame, node: str, moments: Floats) -> dict[str, float]:
    """At how many of the moments each phase of training was under way on a node."""
    mine = events[(events["node"] == node) & ~events["phase"].isin(("step", "worker"))]
    found: dict[str, float] = {}
    for (phase, _), rows in mine.groupby(["phase", "pid"], observed=True):
        starts = rows["start"].to_numpy()
        ends = np.maximum.accumulate(starts + rows["duration"].to_numpy())
        before = np.searchsorted(starts, moments, side="right") - 1
        under_way = (before >= 0) & (moments < ends[np.maximum(before, 0)])
        if under_way.any():
            found[str(phase)] = found.get(str(phase), 0.0) + float(under_way.sum())
    return found

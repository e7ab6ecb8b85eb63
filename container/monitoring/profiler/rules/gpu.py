"""Rules about GPUs: their utilization, their balance and their memory."""

from itertools import combinations
from typing import Any

import numpy as np

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.statistics import Floats, present, quartiles
from container.monitoring.profiler.metrics.system import (
    CPU,
    GPU,
    GPU_MEMORY,
    listed,
)
from container.monitoring.profiler.outcome import Findings, RuleOutcome, unjudged
from container.rules.requests import RuleRequest

BINS = np.arange(0, 102, 2)
"""Per cent: the edges of utilisation histograms, 2 % each."""

CPU_ONLY = "no GPU metrics in this job: the rule compares GPUs, their memory and processors"

Series = dict[tuple[str, str], tuple[Floats, Floats]]
"""By node and GPU: (n,) times and values."""


def low_gpu_utilization(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires for a GPU whose last `window` points are used little, or in bursts.

    Used little: their p95 is below `threshold_p95`. In bursts: it is not, but their p5 is below
    `threshold_p5`. Violations are GPUs at looks.
    """
    parameters = request.parameters
    series = _series(metrics, GPU)
    points = _most(series)
    missing = unjudged(request, points, parameters["patience"])
    if missing:
        return missing
    window = max(1, parameters["window"])
    found = Findings()
    summaries: dict[str, str] = {}
    guilty: list[str] = []
    for (node, gpu), (times, values) in series.items():
        issue = ""
        for seen in metrics.samples.looks(times, parameters):
            if seen < parameters["patience"]:
                continue
            p5, p95 = np.quantile(values[max(0, seen - window) : seen], (0.05, 0.95))
            issue = ""
            if p95 < parameters["threshold_p95"]:
                issue = "under-used"
            elif p95 > parameters["threshold_p95"] and p5 < parameters["threshold_p5"]:
                issue = "fluctuating"
            if issue:
                found.fire(float(times[seen - 1]))
        p5, p95 = (float(part) for part in np.quantile(values[-window:], (0.05, 0.95)))
        found.describe(node, gpu, {"gpu_95": p95, "gpu_5": p5, **quartiles(values), "issue": issue})
        summaries[f"{gpu} on {node}"] = f"p95 {p95:.0f} %, p5 {p5:.0f} %"
        if issue:
            guilty.append(f"{gpu} on {node}")
    if found.moments and not guilty:
        reason = "a GPU was under-used or in bursts for a while, but not at the end"
    elif guilty:
        name = guilty[0]
        reason = f"{listed(guilty)} under-used or in bursts ({name}: {summaries[name]})"
    else:
        first = "; ".join(f"{gpu}: {summary}" for gpu, summary in list(summaries.items())[:3])
        reason = f"every GPU is busy ({first})"
    return found.outcome(request, reason, points=points, needed=parameters["patience"])


def gpu_memory_increase(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires where the mean of `window` points exceeds the mean of the window before by `increase`.

    Percentage points of the GPU's memory. Violations are points; it fires at each of them.
    """
    parameters = request.parameters
    window = max(1, parameters["window"])
    series = _series(metrics, GPU_MEMORY)
    points, needed = _most(series), max(parameters["patience"], 2 * window)
    missing = unjudged(request, points, needed)
    if missing:
        return missing
    found = Findings()
    steepest, where = 0.0, ""
    for (node, gpu), (times, values) in series.items():
        sums = np.concatenate(([0.0], np.cumsum(values)))
        means = (sums[window:] - sums[:-window]) / window
        rise = means[window:] - means[:-window]
        last = np.arange(len(rise)) + 2 * window - 1
        judged = last + 1 >= parameters["patience"]
        broken = judged & (rise > parameters["increase"] + 1e-9)
        for at in last[broken]:
            found.fire(float(times[at]))
        most = float(rise[judged].max()) if judged.any() else 0.0
        if most > steepest or not where:
            steepest, where = most, f"{gpu} on {node}"
        found.describe(
            node,
            gpu,
            {
                "increase": most,
                "gpu_max": float(values.max()),
                "p05": float(np.quantile(values, 0.05)),
                **quartiles(values),
                "violations": int(broken.sum()),
                "first": float(values[0]),
                "last": float(values[-1]),
            },
        )
    reason = (
        f"the memory of {where} rose by {max(0.0, steepest):.1f} percentage points at most from "
        f"one window of {window} points to the next (limit {parameters['increase']:g})"
    )
    return found.outcome(request, reason, points=points, needed=needed)


def load_balancing(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires for two GPUs whose histograms of utilisation lie further apart than `threshold`.

    The Jensen-Shannon distance (natural logarithm: at most sqrt(ln 2) = 0.83) of histograms of 2 %
    over everything seen, of any two GPUs of the job. Violations are pairs at looks.
    """
    parameters = request.parameters
    series = _series(metrics, GPU)
    if len(series) == 1:
        return RuleOutcome(
            request,
            "a single GPU has no load to balance",
            datapoints=_most(series),
            needed=parameters["patience"],
            judged=False,
        )
    points = min((len(times) for times, _ in series.values()), default=0)
    missing = unjudged(request, points, parameters["patience"])
    if missing:
        return missing
    keys = list(series)
    times = np.unique(np.concatenate([when for when, _ in series.values()]))
    at = times[metrics.samples.looks(times, parameters) - 1]
    histograms = [_growing(at, *series[key]) for key in keys]
    found = Findings()
    pairs: list[dict[str, Any]] = []
    for one, other in combinations(range(len(keys)), 2):
        mine, theirs = histograms[one], histograms[other]
        enough = np.minimum(mine.sum(axis=1), theirs.sum(axis=1)) >= parameters["patience"]
        distances = jensen_shannon(mine, theirs)
        for moment in at[enough & (distances > parameters["threshold"])]:
            found.fire(float(moment))
        pairs.append({"one": keys[one], "other": keys[other], "distance": float(distances[-1])})
    for (node, gpu), counts in zip(keys, histograms, strict=True):
        apart: dict[str, float] = {}
        for pair in pairs:
            if pair["one"] == (node, gpu):
                second_node, second = pair["other"]
                label = second if second_node == node else f"{second_node}/{second}"
                apart[label] = pair["distance"]
        entry = found.details.setdefault(node, {"workloads": {}, "distances": {}})
        entry["workloads"][gpu] = counts[-1].astype(int).tolist()
        entry["distances"][gpu] = apart
    worst = max(pairs, key=lambda pair: float(pair["distance"]))
    (node, gpu), (other_node, other_gpu) = worst["one"], worst["other"]
    reason = (
        f"{gpu} on {node} and {other_gpu} on {other_node} differ most, by {worst['distance']:.2f} "
        f"(limit {parameters['threshold']:g})"
    )
    return found.outcome(request, reason, points=points, needed=parameters["patience"])


def jensen_shannon(one: Floats, other: Floats) -> Floats:
    """The Jensen-Shannon distance of histograms, row by row, with the natural logarithm.

    Lin, Divergence measures based on the Shannon entropy (1991), and its square root, which is a
    metric (Endres and Schindelin 2003).

    Args:
        one, other: (rows, bins) counts or probabilities, no row all zeros.

    Returns:
        (rows,) distances between 0 and sqrt(ln 2).
    """
    p = one / np.maximum(one.sum(axis=-1, keepdims=True), 1e-300)
    q = other / np.maximum(other.sum(axis=-1, keepdims=True), 1e-300)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log(p / middle), 0.0).sum(axis=-1)
        right = np.where(q > 0, q * np.log(q / middle), 0.0).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum((left + right) / 2, 0.0)))


def _series(metrics: ProfileMetrics, dimension: str) -> Series:
    found: Series = {}
    for node in metrics.samples.nodes:
        points = metrics.samples.points(node, dimension)
        for at, name in enumerate(points.names):
            there = ~np.isnan(points.values[:, at])
            found[node, name] = points.times[there], points.values[there, at]
    return found


def _most(series: Series) -> int:
    return max((len(times) for times, _ in series.values()), default=0)


def _growing(at: Floats, times: Floats, values: Floats) -> Floats:
    """The histograms, (looks, bins), of what a GPU had done by each of the times `at` (looks,)."""
    bins = np.clip(np.searchsorted(BINS, values, side="right") - 1, 0, len(BINS) - 2)
    counts = np.zeros((len(at), len(BINS) - 1))
    np.add.at(counts, (np.searchsorted(at, times), bins), 1)
    return counts.cumsum(axis=0)


def batch_size(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires where processors, a GPU and its memory all stay below their thresholds.

    Their p95 over the last `window` points is compared, once there are `patience` points and
    `window` of them; processors count by their mean. Violations are GPUs at looks. Without GPUs it
    judges nothing: on processors alone, more pictures at a time fill nothing further.
    """
    parameters = request.parameters
    window = max(1, parameters["window"])
    needed = max(parameters["patience"], window)
    found = Findings()
    points = 0
    summaries: list[str] = []
    for node in metrics.samples.nodes:
        times, (cores, gpus, memories) = metrics.samples.together(node, CPU, GPU, GPU_MEMORY)
        if not cores.size or not gpus.size or gpus.shape != memories.shape:
            continue
        complete = ~np.isnan(cores).all(axis=1)
        times, cores = times[complete], np.nanmean(cores[complete], axis=1)
        gpus, memories = gpus[complete], memories[complete]
        points = max(points, len(times))
        names = metrics.samples.points(node, GPU).names
        found.describe(node, "cpu", quartiles(cores))
        for at, name in enumerate(names):
            gpu, memory = gpus[:, at], memories[:, at]
            if np.isnan(gpu).all() or np.isnan(memory).all():
                continue
            for seen in metrics.samples.looks(times, parameters):
                last = slice(seen - window, seen)
                if seen >= needed and (
                    _p95(cores[last]) < parameters["cpu_threshold_p95"]
                    and _p95(gpu[last]) < parameters["gpu_threshold_p95"]
                    and _p95(memory[last]) < parameters["gpu_memory_threshold_p95"]
                ):
                    found.fire(float(times[seen - 1]))
            found.describe(node, name, quartiles(present(gpu)))
            found.describe(node, f"{name}_memory", quartiles(present(memory)))
            if len(times) >= needed:
                summaries.append(
                    f"{name} on {node}: p95 of processors {_p95(cores[-window:]):.0f} %, "
                    f"GPU {_p95(gpu[-window:]):.0f} %, its memory {_p95(memory[-window:]):.0f} %"
                )
    missing = unjudged(request, points, needed, CPU_ONLY)
    if missing:
        return missing
    limits = (
        f"limits {parameters['cpu_threshold_p95']:g}, {parameters['gpu_threshold_p95']:g}, "
        f"{parameters['gpu_memory_threshold_p95']:g} %"
    )
    reason = f"{summaries[0]} ({limits})" if summaries else "no GPU has enough points"
    return found.outcome(request, reason, points=points, needed=needed)


def _p95(values: Floats) -> float:
    """NaN, which is below no threshold, where nothing was measured."""
    there = present(values)
    return float(np.quantile(there, 0.95)) if there.size else np.nan

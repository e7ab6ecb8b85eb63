"""Rules that watch steps: those that take much longer than the rest, and the first one."""

from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.statistics import Floats, pick
from container.monitoring.profiler.outcome import MOMENTS, RuleOutcome
from container.rules.requests import RuleRequest

ENOUGH = 100
"""Steps of one process and mode before their spread means something; as SageMaker's rule."""
RESOLUTION = 1e-6
"""Seconds: what timelines tell apart; without it steps that last the same would be outliers."""
BARS = 100
"""Bars of a histogram of durations."""
NO_STEPS = "no steps in this job's timeline"


def step_outlier(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires where more than `n_outliers` steps last longer than mean + `stddev` deviations.

    By process and mode (train, eval; `mode` names one, in any of SageMaker's spellings). Violations
    are the outliers of processes that have too many; it fires at each look at which one has.
    """
    parameters = request.parameters
    steps = _steps(metrics, parameters["mode"])
    if steps.empty:
        reason = f"no steps of mode {parameters['mode']!r}" if parameters["mode"] else NO_STEPS
        return RuleOutcome(request, reason, needed=ENOUGH, judged=False)
    details: dict[str, Any] = {}
    moments: list[float] = []
    numbers: list[int] = []
    fired: set[float] = set()
    violations = most = 0
    worst = ""
    for (node, pid, mode), rows in steps.groupby(["node", "pid", "mode"], observed=True):
        rows = rows.sort_values("start")
        durations = rows["duration"].to_numpy()
        ends = rows["start"].to_numpy() + durations
        most = max(most, len(rows))
        if len(rows) < ENOUGH:
            continue
        limit = durations.mean() + parameters["stddev"] * durations.std() + RESOLUTION
        outliers = durations > limit
        name = f"{node}-{pid}" + ("" if mode == "train" else f" ({mode})")
        entry = _entry(durations, outliers) | {
            "phase": f"Step:ModeKeys.{str(mode).upper()}",
            "step_numbers": rows["step"].to_numpy()[outliers][:MOMENTS].tolist(),
            "times": rows["start"].to_numpy()[outliers][:MOMENTS].tolist(),
            "threshold": float(limit),
            "node": str(node),
            "rank": int(rows["rank"].iloc[0]),
            "mode": str(mode),
        }
        details[name] = entry
        order = np.argsort(ends, kind="stable")
        looks = metrics.samples.looks(ends[order], parameters)
        broken = _counts(durations[order], looks, parameters["stddev"]) > parameters["n_outliers"]
        fired.update(ends[order][looks[broken] - 1].tolist())
        if entry["number_of_outliers"] > parameters["n_outliers"]:
            violations += entry["number_of_outliers"]
            moments += entry["times"]
            numbers += entry["step_numbers"]
        if not worst or entry["number_of_outliers"] > details[worst]["number_of_outliers"]:
            worst = name
    if not details:
        reason = f"not enough data: {most} of {ENOUGH} steps"
        return RuleOutcome(request, reason, datapoints=most, needed=ENOUGH, judged=False)
    return RuleOutcome(
        request,
        _summary(worst.partition(" ")[0], details[worst], parameters),
        triggered=len(fired),
        violations=violations,
        datapoints=len(steps),
        needed=ENOUGH,
        moments=tuple(sorted(moments or fired)[:MOMENTS]),
        steps=tuple(sorted(set(numbers))[:MOMENTS]),
        details={"step_details": details},
    )


def max_initialization_time(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires if `threshold` minutes after the job's start no training step has begun."""
    parameters = request.parameters
    job = metrics.recording.job
    begin, end = job.get("started"), job.get("ended")
    steps = _steps(metrics, "train")
    if begin is None or end is None:
        return RuleOutcome(request, "nothing was recorded of this job", judged=False)
    details: dict[str, Any] = {"job_start": begin, "job_end": end, "step_num": {}}
    until = end
    if steps.empty and "training_started" in job:
        until = job["training_started"]
    elif not steps.empty:
        until = float(steps["start"].min())
        details["step_num"] = {"first": until * 1e6, "last": float(steps["start"].max()) * 1e6}
    waited = max(0.0, until - begin)
    details["initialization_in_seconds"] = waited
    limit = 60 * parameters["threshold"]
    late = waited > limit
    known = until != end
    if known:
        reason = f"the first training step began {_span(waited)} after the job"
    else:
        reason = f"no training step in the {_span(waited)} recorded"
        if metrics.recording.events.empty:
            reason += ", which have no timeline"
    return RuleOutcome(
        request,
        f"{reason} (limit {parameters['threshold']:g} min)",
        triggered=int(late),
        violations=int(late),
        datapoints=len(steps),
        judged=late or known,
        moments=(begin + limit,) if late else (),
        details=details,
    )


def histogram(durations: Floats) -> dict[str, list[float]]:
    """`probs` (counts, `BARS`) and `binedges` (seconds, `BARS` + 1), as SageMaker's files say."""
    counts, edges = np.histogram(durations, bins=BARS)
    return {"probs": counts.tolist(), "binedges": edges.tolist()}


def _entry(durations: Floats, outliers: Any) -> dict[str, Any]:
    return {
        "step_stats": pick(durations, "mean", "max", "p99", "p95", "p50", "min"),
        "number_of_outliers": int(outliers.sum()),
        "stddev": float(durations.std()),
        **histogram(durations[~outliers]),
    }


def _counts(durations: Floats, looks: Any, stddev: float) -> Any:
    """How many of the steps seen by each look (looks,) were outliers among them; 0 for too few."""
    shifted = durations - durations.mean()  # else the squares cancel
    seen = looks.astype(float)
    means = np.cumsum(shifted)[looks - 1] / seen
    spreads = np.sqrt(np.maximum(np.cumsum(shifted**2)[looks - 1] / seen - means**2, 0.0))
    limits = means + stddev * spreads + RESOLUTION
    counts = np.array(
        [(shifted[:look] > limit).sum() for look, limit in zip(looks, limits, strict=True)]
    )
    return np.where(looks >= ENOUGH, counts, 0)


def _steps(metrics: ProfileMetrics, mode: str | None) -> pd.DataFrame:
    events = metrics.recording.events
    steps = events[events["phase"] == "step"]
    if mode:
        wanted = mode.strip().rpartition(".")[2].lower()
        steps = steps[steps["mode"] == wanted]
    return steps


def _summary(name: str, entry: dict[str, Any], parameters: Any) -> str:
    found = entry["number_of_outliers"]
    return (
        f"{found:,} {entry['mode']} steps of {name} took longer than {entry['threshold']:.3g} s, "
        f"their mean {entry['step_stats']['mean']:.3g} s and {parameters['stddev']:g} deviations "
        f"(up to {parameters['n_outliers']:,} are normal)"
    )


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def dataloader(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Fires if a host's loader processes are below `min_threshold` % of its cores, or above `max`.

    As many as the job says, or as the timeline shows in the median second; with no workers the
    training process itself loads, and counts as one. Images that are decoded once and stay in
    memory need no loaders: then there is nothing to judge.
    """
    parameters = request.parameters
    events, job = metrics.recording.events, metrics.recording.job
    waits = events[(events["phase"] == "data") & (events["mode"] != "eval")]
    if job.get("in_memory"):
        return RuleOutcome(
            request,
            "no loader processes are needed: the images are decoded once and stay in memory",
            datapoints=len(waits),
            judged=False,
        )
    cores = job.get("cores")
    loaders, source = _loaders(metrics)
    if not cores or loaders is None:
        what = "how many loader workers the job had" if cores else "how many cores the host had"
        return RuleOutcome(
            request, f"the recording does not tell {what}", datapoints=len(waits), judged=False
        )
    fewest = cores * parameters["min_threshold"] / 100
    most = cores * parameters["max_threshold"] / 100
    details: dict[str, Any] = {"cores": int(cores), "dataloaders": int(loaders), "source": source}
    if job.get("workers") is not None:
        details["num_workers"] = int(job["workers"])
    if "pin_memory" in job:
        details["pin_memory"] = bool(job["pin_memory"])
    if not waits.empty:
        durations = waits["duration"].to_numpy()
        p25, p50, p95 = (float(part) for part in np.quantile(durations, (0.25, 0.5, 0.95)))
        details["dataloading_time"] = {"p25": p25, "p50": p50, "p95": p95, **histogram(durations)}
        parts = metrics.breakdown("train")
        if parts and "data" in parts["phases"]:
            details["wait_share"] = parts["phases"]["data"]["share"]
    fired = not fewest <= loaders <= most
    counted = f"{loaders:g} loader process{'es' if loaders != 1 else ''} for {cores:g} cores"
    if fired:
        reason = f"{counted}: " + (
            f"fewer than {parameters['min_threshold']:g} %"
            if loaders < fewest
            else f"more than {parameters['max_threshold']:g} %"
        )
    else:
        least, largest = parameters["min_threshold"], parameters["max_threshold"]
        reason = f"{counted}, within {least:g} to {largest:g} %"
    begin = job.get("training_started", job.get("started"))
    return RuleOutcome(
        request,
        reason,
        triggered=int(fired),
        violations=int(fired),
        datapoints=len(waits),
        moments=(float(begin),) if fired and begin is not None else (),
        details=details,
    )


def _loaders(metrics: ProfileMetrics) -> tuple[float | None, str]:
    """Loader processes of a host, and where their number stands; None if nothing did."""
    job, events = metrics.recording.job, metrics.recording.events
    if job.get("workers") is not None:
        ranks = max(1, round(job.get("world", 1) / max(1, len(job.get("hosts", [])))))
        return max(1, job["workers"] * ranks), "job"
    workers = events[events["phase"] == "worker"]
    if workers.empty:
        return None, ""
    seconds = workers["start"].to_numpy().astype(np.int64)
    by_second = pd.DataFrame({"node": workers["node"], "second": seconds, "pid": workers["pid"]})
    counts = by_second.groupby(["node", "second"], observed=True)["pid"].nunique()
    return float(counts.median()), "timeline"

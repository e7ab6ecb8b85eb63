"""The rule that watches how many processes load pictures."""

from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.rules.breakdown import breakdown
from container.monitoring.profiler.rules.outcome import Outcome
from container.monitoring.profiler.rules.samples import View
from container.monitoring.profiler.rules.steps import histogram
from container.rules.requests import RuleRequest


def dataloader(view: View, request: RuleRequest) -> Outcome:
    """Fires if a host's loader processes are below `min_threshold` % of its cores, or above `max`.

    As many as the job says, or as the timeline shows in the median second; with no workers the
    training process itself loads, and counts as one. Images that are decoded once and stay in
    memory need no loaders: then there is nothing to judge.
    """
    asked = request.parameters
    events, job = view.recording.events, view.recording.job
    waits = events[(events["phase"] == "data") & (events["mode"] != "eval")]
    if job.get("in_memory"):
        return Outcome(
            request,
            "no loader processes are needed: the images are decoded once and stay in memory",
            datapoints=len(waits),
            judged=False,
        )
    cores = job.get("cores")
    loaders, source = _loaders(view)
    if not cores or loaders is None:
        what = "how many loader workers the job had" if cores else "how many cores the host had"
        return Outcome(
            request, f"the recording does not tell {what}", datapoints=len(waits), judged=False
        )
    fewest = cores * asked["min_threshold"] / 100
    most = cores * asked["max_threshold"] / 100
    details: dict[str, Any] = {"cores": int(cores), "dataloaders": int(loaders), "source": source}
    if job.get("workers") is not None:
        details["num_workers"] = int(job["workers"])
    if "pin_memory" in job:
        details["pin_memory"] = bool(job["pin_memory"])
    if not waits.empty:
        durations = waits["duration"].to_numpy()
        p25, p50, p95 = (float(part) for part in np.quantile(durations, (0.25, 0.5, 0.95)))
        details["dataloading_time"] = {"p25": p25, "p50": p50, "p95": p95, **histogram(durations)}
        parts = breakdown(events, "train")
        if parts and "data" in parts["phases"]:
            details["wait_share"] = parts["phases"]["data"]["share"]
    fired = not fewest <= loaders <= most
    counted = f"{loaders:g} loader process{'es' if loaders != 1 else ''} for {cores:g} cores"
    if fired:
        reason = f"{counted}: " + (
            f"fewer than {asked['min_threshold']:g} %"
            if loaders < fewest
            else f"more than {asked['max_threshold']:g} %"
        )
    else:
        reason = f"{counted}, within {asked['min_threshold']:g} to {asked['max_threshold']:g} %"
    begin = job.get("training_started", job.get("started"))
    return Outcome(
        request,
        reason,
        triggered=int(fired),
        violations=int(fired),
        datapoints=len(waits),
        moments=(float(begin),) if fired and begin is not None else (),
        details=details,
    )


def _loaders(view: View) -> tuple[float | None, str]:
    """Loader processes of a host, and what told them; None if nothing did."""
    job, events = view.recording.job, view.recording.events
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

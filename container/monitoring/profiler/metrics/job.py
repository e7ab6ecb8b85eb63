"""A job's start, end and three parts."""

from typing import Any

import numpy as np

from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.reading.text import natural


def job_metrics(recording: Recording) -> dict[str, Any]:
    """The job's facts and its three parts.

    Times are unix seconds and None where nothing tells them. Initialisation runs from the start to
    the first step, the training loop to the end of the last one, finalisation to the end; `share`
    is of the whole duration. What job.json does not say is taken from the first and last thing
    recorded, so a folder of AWS's has all but the initialisation before its first measurement.
    """
    job = recording.job
    began, finished = _span(recording)
    started = _earliest(_number(job.get("started")), began)
    ended = _latest(_number(job.get("ended")), finished)
    first, last = _loop(recording)
    first = _number(job.get("training_started")) or first
    last = _number(job.get("training_ended")) or last
    if last is None and first is not None:
        last = ended
    duration = ended - started if started is not None and ended is not None else None
    return {
        "job": str(job.get("job") or ""),
        "device": job.get("device"),
        "hosts": [str(host) for host in job.get("hosts") or sorted(nodes(recording))],
        "world": _number(job.get("world")),
        "cores": _number(job.get("cores")),
        "workers": _number(job.get("workers")),
        "batch_size": _number(job.get("batch_size")),
        "image_size": _number(job.get("image_size")),
        "train_images": _number(job.get("train_images")),
        "started": started,
        "training_started": first,
        "training_ended": last,
        "ended": ended,
        "duration": duration,
        "initialisation": _part(started, first, duration),
        "training_loop": _part(first, last, duration),
        "finalisation": _part(last, ended, duration),
    }


def nodes(recording: Recording) -> list[str]:
    """Every host with a measurement or an event."""
    found = [*recording.system["node"].unique(), *recording.events["node"].unique()]
    return sorted({str(node) for node in found}, key=natural)


def _span(recording: Recording) -> tuple[float | None, float | None]:
    """The first and the last moment anything was recorded."""
    times = recording.system["time"].to_numpy(dtype=float)
    starts = recording.events["start"].to_numpy(dtype=float)
    ends = starts + recording.events["duration"].to_numpy(dtype=float)
    edges = [each for each in (times, starts, ends) if len(each)]
    if not edges:
        return None, None
    low = min(float(np.nanmin(each)) for each in edges)
    high = max(float(np.nanmax(each)) for each in edges)
    return low, high


def _loop(recording: Recording) -> tuple[float | None, float | None]:
    """From the start of the first step to the end of the last, validation included."""
    events = recording.events
    steps = events[events["phase"] == "step"]
    if not len(steps):
        return None, None
    ends = steps["start"] + steps["duration"]
    return float(steps["start"].min()), float(ends.max())


def _part(begin: float | None, end: float | None, duration: float | None) -> dict[str, Any] | None:
    if begin is None or end is None:
        return None
    seconds = max(0.0, end - begin)
    return {"seconds": seconds, "share": seconds / duration if duration else None}


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return value if good else None


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _latest(*times: float | None) -> float | None:
    return max((time for time in times if time is not None), default=None)

"""Where the time of steps goes, phase by phase."""

from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.reading.phases import WITHIN_STEP

APART = (
    "step", "worker", "forward layer", "backward layer", "loader start", "communication", "other",
)  # fmt: skip
"""What is a step's whole, another process's time, or may run within a phase."""
REST = "rest"
"""A step's time that no phase accounts for."""


def breakdown(events: pd.DataFrame, mode: str) -> dict[str, Any]:
    """The phases of all steps of a mode, over all ranks.

    SageMaker's own timelines leave the wait for data out of the step; it is counted to it here, so
    that shares always add up to 100.

    Args:
        events: a recording's.
        mode: train or eval.

    Returns:
        `steps`, `seconds` (sum), `step` (mean seconds), and `phases`, the known ones in the order
        of a step, then others, then `REST`: `seconds`, `share` (%), `mean` (seconds a step), `p50`,
        `p95` (seconds an event). Empty without steps.
    """
    mine = events[events["mode"] == mode]
    steps = mine[mine["phase"] == "step"]
    if steps.empty:
        return {}
    parts = mine[~mine["phase"].isin(APART)]
    sums = {
        str(phase): rows["duration"].to_numpy()
        for phase, rows in parts.groupby("phase", observed=True)
    }
    accounted = float(sum(durations.sum() for durations in sums.values()))
    whole = float(steps["duration"].sum()) + _outside(steps, parts)
    total = max(whole, accounted)
    if total <= 0:
        return {}
    order = [phase for phase in WITHIN_STEP if phase in sums]
    order += sorted(set(sums) - set(order), key=lambda phase: -float(sums[phase].sum()))
    phases = {phase: _figures(sums[phase], total, len(steps)) for phase in order}
    rest = total - accounted
    if rest > 1e-9 * total:
        mean = rest / len(steps)
        share = 100 * rest / total
        phases[REST] = {"seconds": rest, "share": share, "mean": mean, "p50": mean, "p95": mean}
    return {
        "steps": len(steps),
        "seconds": total,
        "step": total / len(steps),
        "phases": phases,
    }


def _figures(durations: Any, total: float, steps: int) -> dict[str, float]:
    p50, p95 = (float(part) for part in np.quantile(durations, (0.5, 0.95)))
    seconds = float(durations.sum())
    return {
        "seconds": seconds,
        "share": 100 * seconds / total,
        "mean": seconds / steps,
        "p50": p50,
        "p95": p95,
    }


def _outside(steps: pd.DataFrame, parts: pd.DataFrame) -> float:
    """Seconds that waits for data lie before the steps they belong to."""
    waits = parts[parts["phase"] == "data"]
    if waits.empty:
        return 0.0
    whose = ["node", "pid", "step"]
    begins = steps.groupby(whose, observed=True)["start"].min().rename("begin")
    joined = waits.join(begins, on=whose)
    ends = joined["start"] + joined["duration"]
    early = np.minimum(ends, joined["begin"]) - joined["start"]
    return float(early.clip(lower=0).fillna(0.0).sum())

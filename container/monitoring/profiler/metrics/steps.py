"""How long training steps take, and which took much longer than the rest."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics.statistics import summary
from container.monitoring.profiler.phases import WITHIN_STEP

COMPUTE = ("forward", "backward")
DEVIATIONS = 3.0
"""Standard deviations above the mean from which a step counts as an outlier; StepOutlier's own."""
LISTED = 20
"""Outliers that are listed, the longest first; operators of a device that are listed."""
PHASES = ("data", "copy", "augment", "forward", "backward", "optimizer", "metrics")
"""Phases of a training step in the order they run."""
ORDER = {phase: place for place, phase in enumerate(PHASES)} | {"unaccounted": 1000}
NESTED = ("forward layer", "backward layer", "worker", "loader start", "communication", "other")
"""What runs within another phase or beside the step, and so is no part of its sum."""
APART = (
    "step", "worker", "forward layer", "backward layer", "loader start", "communication", "other",
)  # fmt: skip
"""What is a step's whole, another process's time, or may run within a phase."""
REST = "rest"
"""A step's time that no phase accounts for."""


def step_metrics(events: pd.DataFrame) -> dict[str, Any] | None:
    """Durations of training steps in seconds, over all ranks and a rank; None without steps.

    Outliers are the steps longer than the mean plus three standard deviations; `excess` is what
    they took beyond the median, and `blame` the phase that grew most in them.
    """
    steps = training_steps(events)
    if not len(steps):
        return None
    values = steps["duration"].to_numpy(dtype=float)
    middle = float(np.median(values))
    limit = float(values.mean() + DEVIATIONS * values.std())
    late = steps[steps["duration"] > limit]
    first = steps.sort_values("start").groupby("rank", observed=True)["duration"].first()
    return {
        "steps": len(values),
        **summary(values),
        "limit": limit,
        "first": float(first.mean()),
        "outliers": len(late),
        "excess": float((late["duration"] - middle).sum()),
        "blame": _blame(events, late) if len(late) else None,
        "longest": [
            {
                "step": None if pd.isna(row.step) else int(row.step),
                "rank": _rank(row.rank),
                "start": float(row.start),
                "duration": float(row.duration),
            }
            for row in late.nlargest(LISTED, "duration").itertuples()
        ],
        "by_rank": [
            {"rank": _rank(rank), "node": str(rows["node"].iloc[0])}
            | {"steps": len(rows)}
            | summary(rows["duration"].to_numpy(dtype=float))
            | _of_rank(events, rank)
            for rank, rows in steps.groupby("rank", observed=True)
        ],
    }


def training_steps(events: pd.DataFrame) -> pd.DataFrame:
    """The training steps among the events."""
    return events[(events["phase"] == "step") & (events["mode"] == "train")]


def inside_training(events: pd.DataFrame) -> pd.DataFrame:
    """What is part of a training step, without the steps themselves."""
    return events[(events["phase"] != "step") & (events["mode"] == "train")]


def _of_rank(events: pd.DataFrame, rank: Any) -> dict[str, float]:
    """Mean seconds a step of this rank's waiting and computing."""
    own = events[(events["rank"] == rank) & (events["mode"] == "train")]
    count = int((own["phase"] == "step").sum())
    totals = own.groupby("phase", observed=True)["duration"].sum()
    return {
        "data": float(totals.get("data", 0.0)) / count,
        "compute": float(sum(totals.get(phase, 0.0) for phase in COMPUTE)) / count,
    }


def _blame(events: pd.DataFrame, late: pd.DataFrame) -> dict[str, Any] | None:
    """The phase whose mean over slow steps exceeds its usual median most."""
    inside = inside_training(events)
    inside = inside[inside["step"].notna()]
    if not len(inside):
        return None
    keys = pd.MultiIndex.from_frame(late[["rank", "step"]].drop_duplicates())
    of_late = inside[pd.MultiIndex.from_frame(inside[["rank", "step"]]).isin(keys)]
    usual = inside.groupby("phase", observed=True)["duration"].median()
    grown = of_late.groupby("phase", observed=True)["duration"].sum() / len(keys) - usual
    grown = grown.dropna()
    if not len(grown) or grown.max() <= 0:
        return None
    return {"phase": str(grown.idxmax()), "seconds": float(grown.max())}


def _rank(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def framework_metrics(
    events: pd.DataFrame,
    breakdowns: Mapping[str, dict[str, Any]],
    on_device: pd.DataFrame,
    operators: pd.DataFrame,
    loop: float | None,
    duration: float | None,
) -> dict[str, Any]:
    """Time by mode and phase, and the operators.

    Seconds are the mean over ranks, as ranks work side by side. `other` is the rest of the training
    loop (`loop` seconds), while phases outside of steps are shares of the job's `duration`;
    `unaccounted` is what of a training step no phase claims. On a GPU that
    measured the phases itself, they are as the GPU saw them: `measured_by` says so.
    """
    steps = events[events["phase"] == "step"]
    ranks = max(1, steps["rank"].nunique())
    by_mode = {
        mode: float(rows["duration"].sum()) / ranks
        for mode, rows in steps.groupby("mode", observed=True)
    }
    train, evaluation = by_mode.get("train", 0.0), by_mode.get("eval", 0.0)
    phases = _phases(events, breakdowns["train"], ranks, "train")
    seen = _seen_by_gpu(phases, on_device[on_device["mode"] == "train"], ranks)
    return {
        "ranks": ranks if len(steps) else 0,
        "modes": _shares({"train": train, "eval": evaluation}, loop) if len(steps) else [],
        "measured_by": "GPU" if seen is not phases else "loop",
        "phases": seen,
        "evaluation_phases": _phases(events, breakdowns["eval"], ranks, "eval"),
        "outside": _outside(events, ranks, duration),
        "operators": {
            device: _operators(operators[operators["device"] == device])
            for device in sorted(operators["device"].unique())
        },
    }


def share(framework: dict[str, Any], *phases: str) -> float:
    """The share of a training step these phases have together."""
    found = [row["share"] or 0.0 for row in framework["phases"] if row["phase"] in phases]
    return float(sum(found))


def _shares(seconds: dict[str, float], loop: float | None) -> list[dict[str, Any]]:
    whole = max(loop or 0.0, sum(seconds.values()))
    rest = whole - sum(seconds.values())
    return [
        {"mode": name, "seconds": value, "share": value / whole if whole else None}
        for name, value in {**seconds, "other": rest}.items()
    ]


def _phases(
    events: pd.DataFrame, found: dict[str, Any], ranks: int, mode: str
) -> list[dict[str, Any]]:
    if not found or set(found["phases"]) <= {REST}:
        return []
    times = events[events["mode"] == mode].groupby("phase", observed=True).size()
    rows: list[dict[str, Any]] = [
        {
            "phase": "unaccounted" if phase == REST else phase,
            "seconds": row["seconds"] / ranks,
            "share": row["share"] / 100,
            "median": None if phase == REST else row["p50"],
            "times": None if phase == REST else int(times[phase]),
        }
        for phase, row in found["phases"].items()
    ]
    return sorted(rows, key=lambda row: ORDER.get(row["phase"], 100))


def _seen_by_gpu(
    rows: list[dict[str, Any]], device: pd.DataFrame, ranks: int
) -> list[dict[str, Any]]:
    """A training step's phases as the GPU saw them.

    The loop only launches work, so its own times of the phases tell little of a GPU. Where the GPU
    measured them they are put in place. The wait for data is at most what the GPU leaves of the
    step, and what is left after all is `unaccounted`.
    """
    whole = sum(row["seconds"] for row in rows)
    if not len(device) or not whole:
        return rows
    by_phase = device.groupby("phase", observed=True)["duration"]
    seen, medians = by_phase.sum() / ranks, by_phase.median()
    host = {row["phase"]: row for row in rows}
    left = max(0.0, whole - float(seen.sum()))
    parts = {str(phase): float(seconds) for phase, seconds in seen.items()}
    others = [name for name in host if name not in (*parts, "unaccounted")]
    for phase in sorted(others, key=lambda name: name != "data"):
        parts[phase] = min(host[phase]["seconds"], left)
        left -= parts[phase]
    if left > 1e-9 * whole:
        parts["unaccounted"] = left
    whole = sum(parts.values())
    blank = {"median": None, "times": None}
    changed = [
        {**host.get(phase, blank), "phase": phase, "seconds": value, "share": value / whole}
        | ({"median": float(medians[phase])} if phase in seen else {})
        for phase, value in parts.items()
    ]
    return sorted(changed, key=lambda row: ORDER.get(row["phase"], 100))


def _outside(events: pd.DataFrame, ranks: int, duration: float | None) -> list[dict[str, Any]]:
    """Phases that belong to no step."""
    rows = events[
        ~events["mode"].isin(["train", "eval"]) & ~events["phase"].isin(["step", *NESTED])
    ]
    grouped = rows.groupby("phase", observed=True)["duration"].agg(["sum", "count"])
    return [
        {
            "phase": str(phase),
            "seconds": float(row["sum"]) / ranks,
            "share": float(row["sum"]) / ranks / duration if duration else None,
            "times": int(row["count"]),
        }
        for phase, row in grouped.sort_values("sum", ascending=False).iterrows()
    ]


def _operators(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The operators of a device with the longest self time, summed over ranks."""
    together = rows.groupby("name", observed=True)[["calls", "self_time", "total_time"]].sum()
    whole = float(together["self_time"].sum())
    top = together.nlargest(LISTED, "self_time")
    return [
        {
            "name": str(name),
            "calls": int(row["calls"]),
            "self_time": float(row["self_time"]),
            "total_time": float(row["total_time"]),
            "share": float(row["self_time"]) / whole if whole else None,
        }
        for name, row in top.iterrows()
    ]


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
    whole = float(steps["duration"].sum()) + _waits_before(steps, parts)
    total = max(whole, accounted)
    if total <= 0:
        return {}
    order = [phase for phase in WITHIN_STEP if phase in sums]
    order += sorted(set(sums) - set(order), key=lambda phase: -float(sums[phase].sum()))
    phases = {phase: _phase_metrics(sums[phase], total, len(steps)) for phase in order}
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


def _phase_metrics(durations: Any, total: float, steps: int) -> dict[str, float]:
    p50, p95 = (float(part) for part in np.quantile(durations, (0.5, 0.95)))
    seconds = float(durations.sum())
    return {
        "seconds": seconds,
        "share": 100 * seconds / total,
        "mean": seconds / steps,
        "p50": p50,
        "p95": p95,
    }


def _waits_before(steps: pd.DataFrame, parts: pd.DataFrame) -> float:
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

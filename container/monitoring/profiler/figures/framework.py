"""Where the time goes: modes, phases of a step, operators."""

from typing import Any

import pandas as pd

from container.monitoring.profiler.rules.breakdown import REST, breakdown

PHASES = ("data", "copy", "augment", "forward", "backward", "optimizer", "metrics")
"""Phases of a training step in the order they run."""
ORDER = {phase: place for place, phase in enumerate(PHASES)} | {"unaccounted": 1000}
NESTED = ("forward layer", "backward layer", "worker", "loader start", "communication", "other")
"""What runs within another phase or beside the step, and so is no part of its sum."""
LISTED = 20
"""Operators of a device that are listed."""


def framework_figures(
    events: pd.DataFrame,
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
    phases = _phases(events, ranks, "train")
    seen = _seen_by_gpu(phases, on_device[on_device["mode"] == "train"], ranks)
    return {
        "ranks": ranks if len(steps) else 0,
        "modes": _shares({"train": train, "eval": evaluation}, loop) if len(steps) else [],
        "measured_by": "GPU" if seen is not phases else "loop",
        "phases": seen,
        "evaluation_phases": _phases(events, ranks, "eval"),
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


def _phases(events: pd.DataFrame, ranks: int, mode: str) -> list[dict[str, Any]]:
    found = breakdown(events, mode)
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
    """The operators of one device that took longest by themselves, ranks put together."""
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

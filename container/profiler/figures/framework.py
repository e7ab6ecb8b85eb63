"""Where the time goes: modes, phases of a step, operators."""

from typing import Any

import pandas as pd

PHASES = ("data", "copy", "augment", "forward", "backward", "optimizer", "metrics")
"""Phases of a training step in the order they run."""
NESTED = ("forward layer", "backward layer", "worker", "loader start", "communication", "other")
"""What runs within another phase or beside the step, and so is no part of its sum."""
LISTED = 20
"""Operators of a device that are listed."""


def framework_figures(
    events: pd.DataFrame, operators: pd.DataFrame, loop: float | None
) -> dict[str, Any]:
    """Time by mode and phase, and the operators.

    Seconds are the mean over ranks, as ranks work side by side. `other` is the rest of the training
    loop (`loop` seconds); `unaccounted` is what of a training step no phase claims.
    """
    ranks = max(1, events["rank"].nunique()) if len(events) else 1
    steps = events[events["phase"] == "step"]
    by_mode = {
        mode: float(rows["duration"].sum()) / ranks
        for mode, rows in steps.groupby("mode", observed=True)
    }
    train, evaluation = by_mode.get("train", 0.0), by_mode.get("eval", 0.0)
    return {
        "ranks": ranks if len(events) else 0,
        "modes": _shares({"train": train, "eval": evaluation}, loop) if len(steps) else [],
        "phases": _phases(events, train, ranks, "train"),
        "evaluation_phases": _phases(events, evaluation, ranks, "eval"),
        "outside": _outside(events, ranks, loop),
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


def _phases(events: pd.DataFrame, whole: float, ranks: int, mode: str) -> list[dict[str, Any]]:
    inside = events[(events["mode"] == mode) & ~events["phase"].isin(["step", *NESTED])]
    if not len(inside):
        return []
    grouped = inside.groupby("phase", observed=True)["duration"].agg(["sum", "count", "median"])
    whole = max(whole, float(grouped["sum"].sum()) / ranks)
    rows: list[dict[str, Any]] = [
        {
            "phase": str(phase),
            "seconds": float(row["sum"]) / ranks,
            "share": float(row["sum"]) / ranks / whole if whole else None,
            "median": float(row["median"]),
            "times": int(row["count"]),
        }
        for phase, row in grouped.iterrows()
    ]
    rows.sort(key=lambda row: (PHASES.index(p) if (p := row["phase"]) in PHASES else 99, p))
    rest = whole - sum(row["seconds"] for row in rows)
    if whole and rest > 1e-9 * whole:
        rows.append(
            {
                "phase": "unaccounted",
                "seconds": rest,
                "share": rest / whole,
                "median": None,
                "times": None,
            }
        )
    return rows


def _outside(events: pd.DataFrame, ranks: int, loop: float | None) -> list[dict[str, Any]]:
    """Phases that belong to no step."""
    rows = events[
        ~events["mode"].isin(["train", "eval"]) & ~events["phase"].isin(["step", *NESTED])
    ]
    grouped = rows.groupby("phase", observed=True)["duration"].agg(["sum", "count"])
    return [
        {
            "phase": str(phase),
            "seconds": float(row["sum"]) / ranks,
            "share": float(row["sum"]) / ranks / loop if loop else None,
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

"""How long training steps take, and which took much longer than the rest."""

from typing import Any

import numpy as np
import pandas as pd

COMPUTE = ("forward", "backward")
DEVIATIONS = 3.0
"""Standard deviations above the mean from which a step counts as an outlier; StepOutlier's own."""
LISTED = 20
"""Outliers that are listed, the longest first."""


def step_figures(events: pd.DataFrame) -> dict[str, Any] | None:
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
        **_statistics(values),
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
            | _statistics(rows["duration"].to_numpy(dtype=float))
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


def _statistics(values: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, Any]:
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    return {
        "steps": len(values),
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "min": float(values.min()),
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "max": float(values.max()),
    }


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
    """The phase whose mean over the late steps exceeds its usual median most."""
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

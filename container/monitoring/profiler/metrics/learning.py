"""What the network learned: losses, accuracies, learning rates and gradient norms."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from container.files.json_files import finite

ENDS = 0.1
"""The first and the last tenth of the steps stand for the beginning and the end of a curve."""


def learning_metrics(curves: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, Any]:
    """The curves' ends and the epochs; `best_epoch` has the highest validation accuracy.

    Losses at the beginning and the end are means over the first and the last tenth of what was
    recorded; gradient norms are quantiles over all of it.
    """
    records = [
        {str(name): _whole(value) for name, value in row.items()}
        for row in epochs.to_dict("records")
    ]
    return {
        "steps": len(curves),
        "loss": _ends(curves, "loss"),
        "learning_rate": _ends(curves, "learning_rate"),
        "gradient_norm": _norms(curves),
        "not_finite": _not_finite(curves),
        "epochs": records,
        "best_epoch": _best(records, "validation:accuracy", max),
        "lowest_loss_epoch": _best(records, "validation:loss", min),
    }


def of_epoch(learning: dict[str, Any], epoch: int | None, metric: str) -> float | None:
    """A metric of an epoch by its number; of the last one for None."""
    records = learning["epochs"]
    if epoch is None:
        return records[-1].get(metric) if records else None
    return next((row.get(metric) for row in records if row.get("epoch") == epoch), None)


def _ends(curves: pd.DataFrame, name: str) -> dict[str, float] | None:
    values = _finite(curves, name)
    if not len(values):
        return None
    few = max(1, math.ceil(ENDS * len(values)))
    return {
        "first": float(values[:few].mean()),
        "last": float(values[-few:].mean()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _norms(curves: pd.DataFrame) -> dict[str, float] | None:
    values = _finite(curves, "gradient_norm")
    if not len(values):
        return None
    p5, p50, p95 = np.quantile(values, [0.05, 0.5, 0.95])
    return {"p5": float(p5), "p50": float(p50), "p95": float(p95), "max": float(values.max())}


def _not_finite(curves: pd.DataFrame) -> int:
    """Recorded steps whose loss was infinite or undefined."""
    if "loss" not in curves:
        return 0
    return int((~np.isfinite(curves["loss"].to_numpy(dtype=float))).sum())


def _finite(curves: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name not in curves:
        return np.empty(0)
    values = np.asarray(curves[name], dtype=np.float64)
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _best(records: list[dict[str, Any]], metric: str, pick: Any) -> int | None:
    """The earliest epoch with the best value of a metric."""
    found = [row for row in records if row.get(metric) is not None and row.get("epoch") is not None]
    if not found:
        return None
    best = pick(row[metric] for row in found)
    return int(next(row["epoch"] for row in found if row[metric] == best))


def _whole(value: Any) -> Any:
    """A JSON value, whole numbers as int; None for what is not finite."""
    value = finite(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value

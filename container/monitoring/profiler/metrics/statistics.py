"""Statistics of the distribution of some values."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def summary(values: Floats) -> dict[str, float]:
    """Mean, standard deviation (of the population), min, p50, p95, p99 and max of (n,) values."""
    p50, p95, p99 = (float(part) for part in np.quantile(values, (0.5, 0.95, 0.99)))
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "min": float(values.min()),
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "max": float(values.max()),
    }


def pick(values: Floats, *names: str) -> dict[str, float]:
    """These entries of `summary`, in this order."""
    found = summary(values)
    return {name: found[name] for name in names}


def quartiles(values: Floats) -> dict[str, float]:
    """A box plot's figures: p25, p50, p75, p95, and whiskers within 1.5 interquartile ranges."""
    p25, p50, p75, p95 = (float(found) for found in np.quantile(values, (0.25, 0.5, 0.75, 0.95)))
    reach = 1.5 * (p75 - p25)
    return {
        "p25": p25,
        "p50": p50,
        "p75": p75,
        "p95": p95,
        "upper": min(p75 + reach, float(values.max())),
        "lower": max(p25 - reach, float(values.min())),
    }


def present(values: Floats) -> Floats:
    """(n,) without what was not measured."""
    return np.asarray(values[~np.isnan(values)], np.float64)

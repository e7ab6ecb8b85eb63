"""A tensor's value at a step, or its saved reductions; None if it was not saved."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smdebug.core.modes import ModeKeys

Array = NDArray[Any]


def value(trial: Any, name: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> Array | None:
    """A tensor's value.

    Args:
        trial: an smdebug trial.
        name: the tensor's name.
        step: counted in `mode`; by default over all modes together.

    Returns:
        None where it was not saved at that step, only its reductions were, or it is no number.
    """
    try:
        found = np.asarray(trial.tensor(name).value(step, mode))
    except Exception:  # what smdebug raises for a file cut short has no common class
        return None
    return found if found.dtype.kind in "biuf" else None


def reductions(
    trial: Any, name: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL
) -> dict[tuple[str, bool], float]:
    """The saved reductions by (name, whether of absolute values); may be empty."""
    try:
        found = trial.tensor(name).reduction_values(step, mode)
    except Exception:
        return {}
    return {
        key: float(np.asarray(number).reshape(-1)[0])
        for key, number in found.items()
        if np.size(number)
    }


def reduction(
    trial: Any, name: str, step: int, what: str, *, absolute: bool = False
) -> float | None:
    """A reduction of a tensor, computed from its value or as it was saved.

    Args:
        trial: an smdebug trial.
        name: the tensor's name.
        step: the global step.
        what: mean, min, max, sum, std or variance (of the population).
        absolute: of the absolute values.

    Returns:
        The figure, computed in float64 where the value is there; None where neither is, and for
        a tensor without elements.
    """
    whole = value(trial, name, step)
    if whole is not None:
        return reduce(whole, what, absolute=absolute)
    return reductions(trial, name, step).get((what, absolute))


def reduce(array: Array, what: str, *, absolute: bool = False) -> float | None:
    """As `reduction`, of an array; None if it is empty. NaN and infinities propagate."""
    if array.size == 0:
        return None
    with np.errstate(all="ignore"):
        if absolute:
            array = np.abs(array)
        if what in ("min", "max"):
            return float(getattr(array, what)())
        if what in ("std", "variance"):
            variance = float(array.var(dtype=np.float64))
            return math.sqrt(variance) if what == "std" else variance
        return float(getattr(array, what)(dtype=np.float64))


def content(trial: Any, name: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> Array | None:
    """A tensor's value, or else its saved reductions in a fixed order, for comparison.

    Returns:
        The value in its shape; or one float64 a reduction; None where there is neither.
    """
    whole = value(trial, name, step, mode)
    if whole is not None:
        return whole
    saved = reductions(trial, name, step, mode)
    return np.asarray([saved[key] for key in sorted(saved)]) if saved else None

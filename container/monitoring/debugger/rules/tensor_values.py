"""A tensor's value at a step, or the reductions of it that were saved; None where there is none."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smdebug.core.modes import ModeKeys

Array = NDArray[Any]


def value(trial: Any, name: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> Array | None:
    """The whole tensor.

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
    """The reductions that were saved, by (name, whether of the absolute values); maybe none."""
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
    """One figure about a tensor: from its value, else as it was saved.

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
    """As `reduction`, of an array; None for one without elements. NaN and infinities carry over."""
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
    """What there is to compare a tensor by: its value, else its saved reductions in a fixed order.

    Returns:
        The value in its shape; or one float64 a reduction; None where there is neither.
    """
    whole = value(trial, name, step, mode)
    if whole is not None:
        return whole
    saved = reductions(trial, name, step, mode)
    return np.asarray([saved[key] for key in sorted(saved)]) if saved else None

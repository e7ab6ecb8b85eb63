"""Rules about gradients that vanish and values that are not finite."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from container.monitoring.debugger.rules import tensor_values
from container.monitoring.debugger.rules.base import DebugRule, TensorRule, shortened
from container.monitoring.debugger.rules.selection import Selection

_GRADIENTS = Selection(("gradients",))


@dataclass(kw_only=True, eq=False)
class VanishingGradient(DebugRule):
    """Fires when a gradient's mean absolute value, `mean(|g|)`, is below a threshold.

    Each tensor of the collection `gradients` is evaluated separately, so that one layer that no
    longer learns is found among many that do. A gradient with a NaN is not vanishing but exploding.
    Source: SageMaker's developer guide, "VanishingGradient".

    Args:
        threshold: of the mean absolute value.
    """

    threshold: float

    def invoke_at_step(self, step: int) -> bool:
        """Whether a gradient saved at this global step is vanishing."""
        means = self.measure(step, _GRADIENTS, self._mean)
        vanished = sorted((n for n in means if means[n] < self.threshold), key=lambda n: means[n])
        if not vanished:
            return False
        return self.fire(
            f"the mean absolute gradient of {len(vanished)} of {len(means)} tensors is below "
            f"{self.threshold:g}: {means[vanished[0]]:.3g} in {shortened(vanished)}"
        )

    def _mean(self, name: str, step: int) -> float | None:
        return self.reduction(name, step, "mean", absolute=True)


@dataclass(kw_only=True, eq=False)
class ExplodingTensor(TensorRule):
    """Fires when a tensor holds NaN or an infinity.

    For a tensor saved only as reductions its extremes are checked, and where these were
    not saved, its mean, sum and l1 norm, which may overflow even where no element is infinite. For
    `only_nan` the plain mean and sum are left out, because two infinities of opposite signs make a
    NaN.
    Source: SageMaker's developer guide, "ExplodingTensor".

    Args:
        only_nan: whether infinities are fine.
    """

    only_nan: bool
    required: ClassVar[bool] = False

    def invoke_at_step(self, step: int) -> bool:
        """Whether a tensor saved at this global step has non-finite values."""
        found = self.measure(step, self.selection, self._look)
        exploded = {name: words for name, words in found.items() if words}
        if not exploded:
            return False
        first = next(iter(exploded))
        others = shortened([name for name in exploded if name != first])
        return self.fire(f"{first}: {exploded[first]}" + (f"; also {others}" if others else ""))

    def _look(self, name: str, step: int) -> str | None:
        """Describe non-finite values; empty if there are none, None if that is unknown."""
        array = self.value(name, step)
        if array is not None and array.size:
            if array.dtype.kind != "f":
                return ""
            nan = int(np.isnan(array).sum())
            infinite = 0 if self.only_nan else int(np.isinf(array).sum())
            if not nan and not infinite:
                return ""
            words = [f"{nan} NaN"] * bool(nan) + [f"{infinite} infinite"] * bool(infinite)
            return f"{' and '.join(words)} of {array.size} values"
        usable = self._conclusive(tensor_values.reductions(self.base_trial, name, step))
        for (what, absolute), number in usable.items():
            if np.isnan(number) or (np.isinf(number) and not self.only_nan):
                return f"its {'abs_' if absolute else ''}{what} is {number}"
        if not usable:
            self.unreadable(name, "min", "max", "mean", "sum", "l1")
            return None
        return ""

    def _conclusive(self, saved: Mapping[tuple[str, bool], float]) -> dict[tuple[str, bool], float]:
        """The reductions that are non-finite only if an element is."""
        if ("max", True) in saved or {("min", False), ("max", False)} <= saved.keys():
            return {key: number for key, number in saved.items() if key[0] in ("min", "max")}
        sums = ("mean", "sum")
        return {
            (what, absolute): number
            for (what, absolute), number in saved.items()
            if what in ("min", "max", "l1") or (what in sums and (absolute or not self.only_nan))
        }

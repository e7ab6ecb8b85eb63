"""Rules about activations: units that are dead or saturated."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from container.monitoring.debugger.rules.base import DebugRule
from container.monitoring.debugger.rules.selection import Selection


def activity(active: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often each unit of a layer is active, in percent.

    A unit has its own weights: it is a feature of a batch (N, F), a channel of (N, C, H, W) or
    (N, C, D, H, W), or a feature of tokens (N, L, F). A vector is one sample.

    Args:
        active: whether each value is active, in a batch's shape.

    Returns:
        Shape (units,); empty for a batch without elements.
    """
    if active.size == 0:
        return np.empty(0)
    if active.ndim < 2:
        return np.asarray(100.0 * active.reshape(-1), dtype=np.float64)
    axis = active.ndim - 1 if active.ndim == 3 else 1
    others = tuple(a for a in range(active.ndim) if a != axis)
    return np.asarray(100.0 * active.mean(axis=others), dtype=np.float64)


@dataclass(kw_only=True, eq=False)
class _IdleUnits(DebugRule):
    """Fires when too many units of a layer are hardly ever active.

    Args:
        tensor_regex: expressions for the names of the layers' inputs or outputs.
        threshold_inactivity: percent of a unit's samples.
        threshold_layer: percent of a layer's units.

    Raises:
        RuleError: `tensor_regex` is not a regular expression.
    """

    tensor_regex: str | None
    threshold_inactivity: float
    threshold_layer: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._selection = Selection.read(self.rule_name, tensor_regex=self.tensor_regex)

    def _judge(self, step: int, what: str) -> bool:
        """Fires for the layer with the largest share of idle units, in percent, if it is too large.

        Args:
            step: the global step, in training or evaluation.
            what: what the units are, in the reason.
        """
        idle = self.measure(step, self._selection, self._idle)
        beyond = {name: share for name, share in idle.items() if share > self.threshold_layer}
        if not beyond:
            return False
        worst = max(beyond, key=lambda name: beyond[name])
        return self.fire(
            f"{beyond[worst]:.0f} % of the units of {worst} are {what} (more than "
            f"{self.threshold_layer:g} %; so are those of {len(beyond)} of {len(idle)} layers)"
        )

    @abstractmethod
    def _idle(self, name: str, step: int) -> float | None:
        """The share of idle units of a layer, in percent; None if unknown."""

    def _share(self, active: NDArray[np.bool_]) -> float | None:
        """How many units are active less than `threshold_inactivity`, in percent; None of none."""
        often = activity(active)
        return 100.0 * float((often < self.threshold_inactivity).mean()) if often.size else None


@dataclass(kw_only=True, eq=False)
class DeadRelu(_IdleUnits):
    """Fires when more than `threshold_layer` percent of a layer's ReLUs are dead.

    A ReLU is dead if its output is above zero for less than `threshold_inactivity` percent of its
    inputs at a step. Inputs are the samples and, in images, the positions, because all positions of
    a channel share their weights and die together. A NaN counts as active. Source: SageMaker's
    developer guide, "DeadRelu", and "SaturatedActivation" for the unit.

    Of a layer that was saved only as reductions, only a fully dead layer can be detected:
    its maximum is zero.
    """

    def invoke_at_step(self, step: int) -> bool:
        """Whether a layer is dead at this global step."""
        return self._judge(
            step, f"dead: active for less than {self.threshold_inactivity:g} % of the samples"
        )

    def _idle(self, name: str, step: int) -> float | None:
        outputs = self.value(name, step)
        if outputs is not None and outputs.size:
            return self._share(~(outputs <= 0))
        largest = self.reduction(name, step, "max")
        if largest is None or largest > 0:
            self.unreadable(name)
            return None
        return 100.0


@dataclass(kw_only=True, eq=False)
class SaturatedActivation(_IdleUnits):
    """Fires when more than `threshold_layer` percent of a tanh or sigmoid layer is saturated.

    A unit is active for a sample when its input lies between the two limits; it is saturated when
    that is so for less than `threshold_inactivity` percent of the samples (and positions) of a
    step. Whether a layer is a tanh or a sigmoid is read from its tensor's name; the last of the two
    words counts. A NaN counts as active.
    Source: SageMaker's developer guide, "SaturatedActivation", for the rule and its limits.

    Of a layer that was saved only as reductions, only one that lies fully beyond one
    limit can be detected.

    Args:
        threshold_tanh_min: a tanh's input at or below it is saturated.
        threshold_tanh_max: a tanh's input at or above it is.
        threshold_sigmoid_min: a sigmoid's input at or below it is.
        threshold_sigmoid_max: a sigmoid's input at or above it is.
    """

    threshold_tanh_min: float
    threshold_tanh_max: float
    threshold_sigmoid_min: float
    threshold_sigmoid_max: float

    def __post_init__(self) -> None:
        """The limits by the layer's kind."""
        super().__post_init__()
        self._limits = {
            "tanh": (self.threshold_tanh_min, self.threshold_tanh_max),
            "sigmoid": (self.threshold_sigmoid_min, self.threshold_sigmoid_max),
        }

    def invoke_at_step(self, step: int) -> bool:
        """Whether a layer is saturated at this global step."""
        inside = f"within their limits for less than {self.threshold_inactivity:g} % of the samples"
        return self._judge(step, f"saturated: {inside}")

    def _idle(self, name: str, step: int) -> float | None:
        kind = max(self._limits, key=name.lower().rfind)
        if kind not in name.lower():
            self.not_evaluated(f"{name} is named neither tanh nor sigmoid")
            return None
        low, high = self._limits[kind]
        inputs = self.value(name, step)
        if inputs is not None and inputs.size:
            return self._share(~((inputs <= low) | (inputs >= high)))
        smallest = self.reduction(name, step, "min")
        largest = self.reduction(name, step, "max")
        above = smallest is not None and smallest >= high
        below = largest is not None and largest <= low
        if above or below:
            return 100.0
        self.unreadable(name)
        return None

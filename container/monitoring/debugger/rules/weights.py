"""Rules about weights: their initialisation and their updates."""

import math
from dataclasses import dataclass

import numpy as np

from container.monitoring.debugger.rules import tensor_values
from container.monitoring.debugger.rules.base import DebugRule, shortened
from container.monitoring.debugger.rules.selection import Selection
from container.rules.requests import RuleError

_GRADIENT = "gradient/"
"""Before a parameter's name: smdebug's name for its gradient."""
_WEIGHTS, _GRADIENTS = Selection(("weights",)), Selection(("gradients",))


@dataclass(kw_only=True, eq=False)
class PoorWeightInitialization(DebugRule):
    """Fires when the first steps show that the weights started badly. Two signs:

    - The inputs of the activations differ too much in variance from layer to layer:
      `max(var) / min(var) > threshold`. Good initialisation keeps it about constant (Glorot and
      Bengio 2010), too small or too large weights let it shrink or grow with every layer.
    - The gradients are all but nothing and the network does not move: of some layer's weights
      (tensors of two dimensions or more) the 5th and the 95th percentile of the gradient are less
      than `distribution_range` apart, and the loss has reached no new minimum for `patience` steps.
      Where no loss was saved, the gradients alone decide.

    Source: SageMaker's developer guide, "PoorWeightInitialization". It names the three things that
    are checked and their thresholds; that narrow gradients need a loss that stands still is berth's
    reading, because in a network of any size the gradients of healthy weights are that narrow.

    Args:
        activation_inputs_regex: expressions for the names of the activations' inputs.
        threshold: of the ratio of the variances.
        distribution_range: of the gradient's percentiles.
        patience: analysed steps without a lower loss.
        steps: training steps, of those saved, that are analysed; the rule ends with them.

    Raises:
        RuleError: `activation_inputs_regex` is not a regular expression.
    """

    activation_inputs_regex: str | None
    threshold: float
    distribution_range: float
    patience: int
    steps: int

    def __post_init__(self) -> None:
        """Nothing has been analysed yet."""
        super().__post_init__()
        self._inputs = Selection.read(
            self.rule_name,
            tensor_regex=self.activation_inputs_regex,
            regex_parameter="activation_inputs_regex",
        )
        self._analysed = 0
        self._inputs_seen = False
        self._lowest = math.inf
        self._without_lower = 0

    @property
    def details(self) -> str:
        """As for any rule; also that there were gradients, but no activations."""
        unseen = self.points and not self._inputs_seen
        return super().details or (f"only gradients: no tensor {self._inputs}" if unseen else "")

    def invoke_at_step(self, step: int) -> bool:
        """Whether this global step, if among the first of training, shows a sign."""
        if self._analysed >= self.steps or not self.in_training(step):
            return False
        before = self.points
        uneven = self._uneven(step)
        narrow = self._narrow(step)
        stands_still = self._stands_still(step)
        self._analysed += self.points > before
        if uneven:
            return self.fire(uneven)
        if not narrow or stands_still is False:
            return False
        loss = f"the loss has not fallen for {self._without_lower} steps"
        return self.fire(f"{narrow} and {loss if stands_still else 'no loss was saved'}")

    def _uneven(self, step: int) -> str:
        """Describe how the variances differ, if too much."""
        variances = self.measure(step, self._inputs, self._variance)
        self._inputs_seen = self._inputs_seen or bool(variances)
        if len(variances) < 2:
            return ""
        low = min(variances, key=lambda name: variances[name])
        high = max(variances, key=lambda name: variances[name])
        if variances[high] <= self.threshold * variances[low]:
            return ""
        ratio = variances[high] / variances[low] if variances[low] else math.inf
        return (
            f"the variance of the activations' inputs differs by a factor of {ratio:.3g} between "
            f"layers: {variances[low]:.3g} in {low}, {variances[high]:.3g} in {high}"
        )

    def _variance(self, name: str, step: int) -> float | None:
        variance = self.reduction(name, step, "variance")
        return None if variance is None or not math.isfinite(variance) else variance

    def _narrow(self, step: int) -> str:
        """Describe which layer's gradient is too narrow, if any."""
        ranges = self.measure(step, _GRADIENTS, self._width)
        if not ranges:
            return ""
        least = min(ranges, key=lambda name: ranges[name])
        if not ranges[least] < self.distribution_range:
            return ""
        return f"the 5th and the 95th percentile of {least} are only {ranges[least]:.3g} apart"

    def _width(self, name: str, step: int) -> float | None:
        """The distance of the percentiles; None for a bias, or if unknown."""
        gradient = self.value(name, step)
        if gradient is not None:
            if gradient.ndim < 2 or not gradient.size or not np.isfinite(gradient).all():
                return None
            low, high = np.percentile(gradient, (5, 95))
            return float(high) - float(low)
        saved = tensor_values.reductions(self.base_trial, name, step)
        if not name.endswith("weight") or not {("min", False), ("max", False)} <= saved.keys():
            return None
        # All of the gradient lies between its extremes: if they are close, so are the percentiles.
        width = saved["max", False] - saved["min", False]
        return width if width < self.distribution_range else None

    def _stands_still(self, step: int) -> bool | None:
        """Whether the loss has not become lower for `patience` steps; None where none was saved."""
        losses = [
            self.reduction(name, step, "mean") for name in self.names(step, Selection(("losses",)))
        ]
        known = [loss for loss in losses if loss is not None]
        if not known:
            return None
        loss = sum(known)
        if loss < self._lowest:
            self._lowest = loss
            self._without_lower = 0
        else:  # NaN included
            self._without_lower += 1
        return self._without_lower >= self.patience


@dataclass(kw_only=True, eq=False)
class WeightUpdateRatio(DebugRule):
    """Fires when a weight moves too much or too little for its size.

    The ratio is `‖w(s) − w(r)‖₂ / (‖w(r)‖₂ + epsilon)`, as in Stanford's CS231n notes, "Ratio of
    weights:updates". Here s is the step and r the one before it that was saved; with `num_steps`,
    the earliest saved one with r ≥ s − num_steps. Steps of training are compared with each other;
    in a trial without modes, all steps.

    Left out are weights that are zero at r, which have no size to compare with, and weights without
    a gradient at the last step at which gradients were saved: they are frozen on purpose. Where no
    gradients are saved, frozen weights do fire. Weights not saved whole cannot be compared.
    Source: SageMaker's developer guide, "WeightUpdateRatio".

    Args:
        num_steps: training steps to look back; None for the step saved before.
        large_threshold: the rule fires above it.
        small_threshold: the rule fires below it.
        epsilon: keeps the ratio finite.

    Raises:
        RuleError: `num_steps` is less than 1.
    """

    num_steps: int | None
    large_threshold: float
    small_threshold: float
    epsilon: float

    def __post_init__(self) -> None:
        """Check the number of steps."""
        super().__post_init__()
        if self.num_steps is not None and self.num_steps < 1:
            raise RuleError(
                f"rule {self.rule_name}: parameter 'num_steps': expected at least 1, found "
                f"{self.num_steps}"
            )
        self._moving: set[str] = set()

    def invoke_at_step(self, step: int) -> bool:
        """Whether a weight saved at this global step has moved too much or too little."""
        if not self.in_training(step):
            return False
        saved = self.base_trial.tensor_names(step=step)
        self._moving = set(_GRADIENTS.filter(saved, self.base_trial)) or self._moving
        ratios = self.measure(step, _WEIGHTS, self._ratio)
        large = [n for n in ratios if ratios[n] > self.large_threshold]
        small = [n for n in ratios if ratios[n] < self.small_threshold]
        if large:
            most = max(large, key=lambda name: ratios[name])
            return self.fire(
                f"{most} moved by {ratios[most]:.3g} times its size, more than "
                f"{self.large_threshold:g}; so did {len(large)} of {len(ratios)} weights"
            )
        return bool(small) and self.fire(
            f"{len(small)} of {len(ratios)} weights moved by less than {self.small_threshold:g} of "
            f"their size: {shortened(small)}"
        )

    def _ratio(self, name: str, step: int) -> float | None:
        if self._moving and _GRADIENT + name not in self._moving:
            return None  # frozen
        mode = self.mode_of(step)
        earlier = self.earlier_steps(name, step)
        if self.num_steps is not None:
            earlier = [s for s in earlier if s >= self.mode_step(step) - self.num_steps][:1]
        if not earlier:
            if not self.points:
                within = f" in the {self.num_steps} steps" if self.num_steps else ""
                self.not_evaluated(f"{name} was not saved{within} before a step at which it was")
            return None
        now, before = self.value(name, step), self.value(name, earlier[-1], mode)
        if now is None or before is None or now.shape != before.shape or not now.size:
            self.unreadable(name)
            return None
        with np.errstate(all="ignore"):
            reference = before.astype(np.float64)
            update = float(np.linalg.norm((now - reference).reshape(-1)))
            size = float(np.linalg.norm(reference.reshape(-1)))
        return update / (size + self.epsilon) if size > 0 and math.isfinite(size) else None

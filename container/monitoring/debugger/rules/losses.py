"""Rules about a loss: the scalars that loss rules read, and a loss that does not decrease.

Source: the SageMaker developer guide's list of built-in Debugger rules gives the parameters and
their meaning; each class documents its own algorithm.
"""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from smdebug.core.modes import ModeKeys

from container.monitoring.debugger.rules.base import DebugRule
from container.monitoring.debugger.rules.selection import Selection
from container.rules.requests import RuleError


@dataclass(kw_only=True, eq=False)
class LossRule(DebugRule):
    """A rule that reads scalars, the losses."""

    def scalars(self, step: int, selection: Selection) -> dict[str, float]:
        """The values of the selected scalars at a global step."""
        found = {}
        for name in self.names(step, selection):
            value = self.value(name, step)
            if value is None:
                mean = self.reduction(name, step, "mean")  # of a scalar, as good as itself
                if mean is not None:
                    found[name] = mean
            elif value.size == 1:
                found[name] = float(value.reshape(-1)[0])
            elif not self.points:
                self.not_evaluated(f"{name} holds {value.size} numbers, and a loss is one")
        return found


@dataclass(kw_only=True, eq=False)
class LossNotDecreasing(LossRule):
    """Fires when a loss did not fall by `diff_percent` over `num_steps`, or rose too much.

    With c the change in percent from the loss at the last saved step at least `num_steps` before to
    the loss at this step, it fires when `-diff_percent < c <= 0` (it stands still) and when
    `c > increase_threshold_percent` (it grows; a smaller rise is taken for chance); also when the
    loss is not finite. After a comparison the next is at the first saved step at least `num_steps`
    later.

    In mode GLOBAL steps are counted over training and evaluation together, but a loss is compared
    with an earlier one of its own mode. An evaluation is one point, the mean of the losses saved in
    it at the last of their steps, for its batches differ though nothing is learnt between them.

    Args:
        collection_names: names of collections, separated by commas.
        tensor_regex: regular expressions for further tensors.
        use_losses_collection: whether to include the collection `losses`.
        num_steps: at least 1.
        diff_percent: the fall that is expected, in percent.
        increase_threshold_percent: the rise that is accepted, in percent.
        mode: EVAL, TRAIN or GLOBAL; None for the first of these that has been seen.

    Raises:
        RuleError: no tensors are chosen, or the mode is none of these.
    """

    collection_names: str | None
    tensor_regex: str | None
    use_losses_collection: bool
    num_steps: int
    diff_percent: float
    increase_threshold_percent: float
    mode: str | None

    def __post_init__(self) -> None:
        """Nothing has been compared yet."""
        super().__post_init__()
        names = [self.collection_names, "losses" if self.use_losses_collection else None]
        self._selection = Selection.read(
            self.rule_name,
            collection_names=",".join(filter(None, names)),
            tensor_regex=self.tensor_regex,
            required=True,
        )
        self._num_steps = max(1, self.num_steps)
        self._only = _mode(self.rule_name, self.mode)
        self._histories: dict[tuple[str, ModeKeys], _History] = {}
        self._evaluation: dict[str, list[float]] = {}
        self._where = (0, 0)

    def invoke_at_step(self, step: int) -> bool:
        """Compare this step's losses with earlier ones."""
        mode = self.mode_of(step)
        wanted = self._wanted(mode)
        number = step if self._only is ModeKeys.GLOBAL else self.mode_step(step)
        trained = step - self.mode_step(step) if mode is ModeKeys.EVAL else None
        reasons = self._end_evaluation() if trained != self._where[0] else []
        if wanted:
            for name, loss in self.scalars(step, self._selection).items():
                if trained is None:
                    reasons += self._compare(name, mode, number, loss)
                else:
                    self._evaluation.setdefault(name, []).append(loss)
                    self._where = (trained, number)
        return self.fire("; ".join(reasons)) if reasons else False

    def invoke_at_end(self) -> bool:
        """Compare the last evaluation, which nothing follows."""
        reasons = self._end_evaluation()
        return self.fire("; ".join(reasons)) if reasons else False

    def _end_evaluation(self) -> list[str]:
        evaluation, self._evaluation = self._evaluation, {}
        return [
            reason
            for name, losses in evaluation.items()
            for reason in self._compare(name, ModeKeys.EVAL, self._where[1], float(np.mean(losses)))
        ]

    def _compare(self, name: str, mode: ModeKeys, number: int, loss: float) -> list[str]:
        history = self._histories.setdefault((name, mode), _History())
        earlier = history.earlier(number, self._num_steps)
        history.append(number, loss)
        if earlier is None:
            if not self.points:
                self.not_evaluated(
                    f"no two losses at least {self._num_steps} steps apart were saved"
                )
            return []
        self.points += 1
        history.compared = number
        reason = self._judge(loss, *earlier)
        return [f"{name} {reason}"] if reason else []

    def _wanted(self, mode: ModeKeys) -> bool:
        if self._only is not None:
            return self._only in (ModeKeys.GLOBAL, mode)
        seen = set(self.base_trial.modes())
        best = next((m for m in (ModeKeys.EVAL, ModeKeys.TRAIN) if m in seen), mode)
        return mode is best

    def _judge(self, loss: float, then: int, before: float) -> str:
        if not math.isfinite(loss):
            return f"is {loss}"
        change = 100 * (loss - before) / abs(before) if before else 100 * float(np.sign(loss))
        if -self.diff_percent < change <= 0:
            return (
                f"fell by {abs(change):.3g} % from {before:.4g} at step {then} to {loss:.4g}, less "
                f"than {self.diff_percent:g} %"
            )
        if change > self.increase_threshold_percent:
            return (
                f"rose by {change:.3g} % from {before:.4g} at step {then} to {loss:.4g}, more "
                f"than {self.increase_threshold_percent:g} %"
            )
        return ""


@dataclass
class _History:
    """The last values of a loss, as far back as needed.

    Attributes:
        compared: the step of the last comparison, or the first step.
    """

    compared: int | None = None
    values: deque[tuple[int, float]] = field(default_factory=deque)

    def append(self, step: int, loss: float) -> None:
        if self.compared is None:
            self.compared = step
        self.values.append((step, loss))

    def earlier(self, step: int, num_steps: int) -> tuple[int, float] | None:
        """The last step at least `num_steps` before this one, if it is time to compare."""
        if self.compared is None or step - self.compared < num_steps:
            return None
        while len(self.values) > 1 and self.values[1][0] <= step - num_steps:
            self.values.popleft()
        return self.values[0] if self.values[0][0] <= step - num_steps else None


def _mode(rule: str, name: str | None) -> ModeKeys | None:
    if name is None or name.strip().lower() in ("", "none"):
        return None
    try:
        return {m.name: m for m in (ModeKeys.EVAL, ModeKeys.TRAIN, ModeKeys.GLOBAL)}[
            name.strip().upper().removeprefix("MODES.").removeprefix("MODEKEYS.")
        ]
    except KeyError:
        raise RuleError(
            f"rule {rule}: parameter 'mode': expected EVAL, TRAIN or GLOBAL, found {name!r}"
        ) from None

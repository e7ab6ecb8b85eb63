"""Rules about losses: one that does not fall, one that falls on the training images alone, one that
has fallen as far as it will.

Sources: the SageMaker developer guide's list of built-in Debugger rules, which gives parameters and
meaning; how the rules go about it is our own and said below each.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from smdebug.core.modes import ModeKeys

from container.monitoring.debugger.rules.base import DebugRule
from container.monitoring.debugger.rules.evaluations import Evaluations
from container.monitoring.debugger.rules.selection import Selection
from container.rules.requests import RuleError

_LOSSES = Selection(collections=("losses",))


class _LossRule(DebugRule):
    """A rule that reads scalars, the losses."""

    def scalars(self, step: int, selection: Selection) -> dict[str, float]:
        """The chosen tensors' values at a global step, of those that hold one number."""
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
                self.nothing(f"{name} holds {value.size} numbers, and a loss is one")
        return found


class LossNotDecreasing(_LossRule):
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
        base_trial: an smdebug trial.
        collection_names: collections to look at, separated by commas.
        tensor_regex: expressions for tensors to look at, besides.
        use_losses_collection: whether to look at the collection `losses`, besides.
        num_steps: at least 1.
        diff_percent: the fall that is expected, in percent.
        increase_threshold_percent: the rise that is accepted, in percent.
        mode: EVAL, TRAIN or GLOBAL; None for the first of these that has been seen.

    Raises:
        RuleError: no tensors are chosen, or the mode is none of these.
    """

    def __init__(
        self,
        base_trial: Any,
        collection_names: str | None = None,
        tensor_regex: str | None = None,
        use_losses_collection: bool = True,
        num_steps: int = 10,
        diff_percent: float = 0.1,
        increase_threshold_percent: float = 5.0,
        mode: str | None = "GLOBAL",
    ) -> None:
        super().__init__(base_trial)
        if use_losses_collection:
            collection_names = ",".join(filter(None, [collection_names, "losses"]))
        self._selection = Selection.read(
            "LossNotDecreasing",
            collection_names=collection_names,
            tensor_regex=tensor_regex,
            required=True,
        )
        self._num_steps = max(1, num_steps)
        self._fall, self._rise = diff_percent, increase_threshold_percent
        self._only = _mode("LossNotDecreasing", mode)
        self._histories: dict[tuple[str, ModeKeys], _History] = {}
        self._evaluation: dict[str, list[float]] = {}
        self._where = (0, 0)

    def invoke_at_step(self, step: int) -> bool:
        """Compare this step's losses with earlier ones."""
        mode = self.mode(step)
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
                self.nothing(f"no two losses at least {self._num_steps} steps apart were saved")
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
        if -self._fall < change <= 0:
            return (
                f"fell by {abs(change):.3g} % from {before:.4g} at step {then} to {loss:.4g}, less "
                f"than {self._fall:g} %"
            )
        if change > self._rise:
            return (
                f"rose by {change:.3g} % from {before:.4g} at step {then} to {loss:.4g}, more "
                f"than {self._rise:g} %"
            )
        return ""


@dataclass
class _History:
    """A loss's last values, as far back as they are needed.

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


class Overfit(_LossRule):
    """Fires when the validation loss leaves the training loss behind.

    It fires when `(validation - training) / training > ratio_threshold` for `patience` evaluations
    in a row: `validation` is the mean of the losses saved in one evaluation (steps of mode EVAL
    with no training between them), `training` the mean of those saved in the training since the
    evaluation before it, or the last such mean where none was saved. So both are of the same
    stretch of the job, whatever the two modes' save intervals are. An evaluation is judged when it
    is over: at the first saved step after it, or at the end.

    A training loss made harder on purpose (label smoothing, mixup, heavy augmentation) hides
    overfitting from this rule, as it does from the eye.

    Args:
        base_trial: an smdebug trial that knows training and evaluation apart.
        tensor_regex: expressions for the losses, of which scalars are read; by default the
            collection `losses`.
        start_step: the first global step that counts.
        patience: at least 1.
        ratio_threshold: as above.
    """

    def __init__(
        self,
        base_trial: Any,
        tensor_regex: str | None = None,
        start_step: int = 0,
        patience: int = 1,
        ratio_threshold: float = 0.1,
    ) -> None:
        super().__init__(base_trial)
        self._selection = (
            Selection.read("Overfit", tensor_regex=tensor_regex) if tensor_regex else _LOSSES
        )
        self._start, self._patience, self._threshold = start_step, patience, ratio_threshold
        self._evaluations = Evaluations()
        self._in_a_row = 0

    def invoke_at_step(self, step: int) -> bool:
        """Take in this step's losses; judge the evaluation they follow."""
        mode = self.mode(step)
        if step < self._start or mode not in (ModeKeys.TRAIN, ModeKeys.EVAL):
            if not self.points:
                self.nothing("no losses of both training and evaluation were saved yet")
            return False
        losses = list(self.scalars(step, self._selection).values())
        trained = step - self.mode_step(step)
        return self._judge(self._evaluations.add(mode, losses, trained))

    def invoke_at_end(self) -> bool:
        """Judge the last evaluation, which no training follows."""
        fired = self._judge(self._evaluations.end())
        if not self.points:
            self.nothing("losses of both training and evaluation are needed")
        return fired

    def _judge(self, means: tuple[float | None, float] | None) -> bool:
        if means is None or means[0] is None:
            return False
        self.points += 1
        training, validation = means[0], means[1]
        exceeded = validation - training > self._threshold * abs(training)
        self._in_a_row = self._in_a_row + 1 if exceeded else 0
        if self._in_a_row < max(1, self._patience):
            return False
        times = f", for {self._in_a_row} evaluations in a row" if self._in_a_row > 1 else ""
        ratio = (validation - training) / abs(training) if training else math.inf
        return self.fire(
            f"the mean validation loss {validation:.4g} is {100 * ratio:.3g} % above the mean "
            f"training loss {training:.4g}, more than {100 * self._threshold:g} %{times}"
        )


class Overtraining(_LossRule):
    """Fires when training goes on though nothing improves any more.

    A loss improves when it falls by more than `delta` (absolute) below its best so far. It fires
    while neither the training loss has improved for `patience_train` saved steps nor the validation
    loss for `patience_validation` evaluations. An evaluation counts as one step, the mean of the
    losses saved in it: its batches differ from one another, but not from the next evaluation's.

    Where nothing is ever evaluated the training loss alone decides: at the end, since a first
    evaluation may still come, or at once in a trial that knows no modes.

    Args:
        base_trial: an smdebug trial.
        patience_train: saved steps of training.
        patience_validation: evaluations.
        delta: in units of the loss.
    """

    def __init__(
        self,
        base_trial: Any,
        patience_train: int = 5,
        patience_validation: int = 10,
        delta: float = 0.01,
    ) -> None:
        super().__init__(base_trial)
        self._training = _Best(patience_train, delta)
        self._validation = _Best(patience_validation, delta)
        self._evaluations = Evaluations()

    def invoke_at_step(self, step: int) -> bool:
        """Take in this step's losses."""
        losses = list(self.scalars(step, _LOSSES).values())
        if not losses:
            return False
        self.points += 1
        mode = self.mode(step)
        over = self._evaluations.add(mode, losses, step - self.mode_step(step))
        if over is not None:
            self._validation.see(over[1])
        if mode is not ModeKeys.EVAL:
            self._training.see(float(np.mean(losses)))
        elif over is None:
            return False
        return self._judge(wait=mode is ModeKeys.TRAIN)

    def invoke_at_end(self) -> bool:
        """Take in the last evaluation, which no training follows."""
        over = self._evaluations.end()
        if over is not None:
            self._validation.see(over[1])
        elif self._validation.seen:
            return False
        return self._judge(wait=False)

    def _judge(self, *, wait: bool) -> bool:
        """Whether nothing improves.

        Args:
            wait: whether a first evaluation may still come.
        """
        evaluated = self._validation.seen > 0
        if not self._training.exhausted or (not evaluated and wait):
            return False
        if evaluated and not self._validation.exhausted:
            return False
        since = f"the training loss has not fallen below {self._training.best:.4g} for "
        since += f"{self._training.waited} saved steps"
        if evaluated:
            since += f" and the validation loss not below {self._validation.best:.4g} for "
            since += f"{self._validation.waited} evaluations"
        return self.fire(since)


@dataclass
class _Best:
    """The best of a series so far, and how long ago it was.

    Attributes:
        patience: how long it may be ago.
        delta: how much better a new best must be.
    """

    patience: int
    delta: float
    best: float = math.inf
    waited: int = 0
    seen: int = 0

    @property
    def exhausted(self) -> bool:
        return self.seen > 0 and self.waited >= self.patience

    def see(self, loss: float) -> None:
        self.seen += 1
        if loss < self.best - self.delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1


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

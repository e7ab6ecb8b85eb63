"""Rules about training that overfits or no longer improves, by its training and validation losses.

Source: the SageMaker developer guide's list of built-in Debugger rules gives the parameters and
their meaning; each class documents its own algorithm.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from smdebug.core.modes import ModeKeys

from container.monitoring.debugger.rules.losses import LossRule
from container.monitoring.debugger.rules.selection import Selection

_LOSSES = Selection(collections=("losses",))


@dataclass
class EvaluationLosses:
    """Groups a run's losses by evaluation: its own losses, and those of the training before it.

    Attributes:
        training: losses of training since the last evaluation.
        validation: losses of the current evaluation.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    _trained: int = 0
    _training_mean: float | None = None

    def add(
        self, mode: ModeKeys, losses: list[float], trained: int
    ) -> tuple[float | None, float] | None:
        """Add the losses of a step.

        Args:
            mode: TRAIN or EVAL.
            losses: what was saved of it.
            trained: steps of training before it, saved or not: evaluations differ in them.

        Returns:
            Mean training and mean validation loss of the evaluation that is over now, if one is.
        """
        over = None
        if mode is not ModeKeys.EVAL or trained != self._trained:
            over = self.end()
        if mode is ModeKeys.EVAL:
            self._trained = trained
            self.validation += losses
        else:
            self.training += losses
        return over

    def end(self) -> tuple[float | None, float] | None:
        """The means of the evaluation under way; the training loss is the last known, if any is."""
        if not self.validation:
            return None
        if self.training:
            self._training_mean = float(np.mean(self.training))
        validation = float(np.mean(self.validation))
        self.training, self.validation = [], []
        return self._training_mean, validation


@dataclass(kw_only=True, eq=False)
class Overfit(LossRule):
    """Fires when the validation loss rises too far above the training loss.

    It fires when `(validation - training) / training > ratio_threshold` for `patience` evaluations
    in a row: `validation` is the mean of the losses saved in one evaluation (steps of mode EVAL
    with no training between them), `training` the mean of those saved in the training since the
    evaluation before it, or the last such mean where none was saved. So both are of the same
    stretch of the job, whatever the two modes' save intervals are. An evaluation is judged when it
    is over: at the first saved step after it, or at the end.

    A training loss made harder on purpose (label smoothing, mixup, heavy augmentation) hides
    overfitting from this rule.

    Args:
        base_trial: an smdebug trial with the modes TRAIN and EVAL.
        tensor_regex: expressions for the losses, of which scalars are read; by default the
            collection `losses`.
        start_step: the first global step that counts.
        patience: at least 1.
        ratio_threshold: as above.
    """

    tensor_regex: str | None
    start_step: int
    patience: int
    ratio_threshold: float

    def __post_init__(self) -> None:
        """No evaluation has been seen yet."""
        super().__post_init__()
        chosen = Selection.read(self.rule_name, tensor_regex=self.tensor_regex)
        self._selection = chosen if self.tensor_regex else _LOSSES
        self._evaluations = EvaluationLosses()
        self._in_a_row = 0

    def invoke_at_step(self, step: int) -> bool:
        """Add this step's losses; judge the evaluation before it."""
        mode = self.mode_of(step)
        if step < self.start_step or mode not in (ModeKeys.TRAIN, ModeKeys.EVAL):
            if not self.points:
                self.not_evaluated("no losses of both training and evaluation were saved yet")
            return False
        losses = list(self.scalars(step, self._selection).values())
        trained = step - self.mode_step(step)
        return self._judge(self._evaluations.add(mode, losses, trained))

    def invoke_at_end(self) -> bool:
        """Judge the last evaluation, which no training follows."""
        fired = self._judge(self._evaluations.end())
        if not self.points:
            self.not_evaluated("losses of both training and evaluation are needed")
        return fired

    def _judge(self, means: tuple[float | None, float] | None) -> bool:
        if means is None or means[0] is None:
            return False
        self.points += 1
        training, validation = means[0], means[1]
        exceeded = validation - training > self.ratio_threshold * abs(training)
        self._in_a_row = self._in_a_row + 1 if exceeded else 0
        if self._in_a_row < max(1, self.patience):
            return False
        times = f", for {self._in_a_row} evaluations in a row" if self._in_a_row > 1 else ""
        ratio = (validation - training) / abs(training) if training else math.inf
        return self.fire(
            f"the mean validation loss {validation:.4g} is {100 * ratio:.3g} % above the mean "
            f"training loss {training:.4g}, more than {100 * self.ratio_threshold:g} %{times}"
        )


@dataclass(kw_only=True, eq=False)
class Overtraining(LossRule):
    """Fires when training continues without improvement.

    A loss improves when it falls by more than `delta` (absolute) below its best so far. It fires
    while neither the training loss has improved for `patience_train` saved steps nor the validation
    loss for `patience_validation` evaluations. An evaluation counts as one step, the mean of the
    losses saved in it: its batches differ from one another, but not from the next evaluation's.

    Without evaluations the training loss alone decides: at the end, since a first evaluation may
    still come, or at once in a trial without modes.

    Args:
        patience_train: saved steps of training.
        patience_validation: evaluations.
        delta: in units of the loss.
    """

    patience_train: int
    patience_validation: int
    delta: float

    def __post_init__(self) -> None:
        """No loss has been seen yet."""
        super().__post_init__()
        self._training = _Best(self.patience_train, self.delta)
        self._validation = _Best(self.patience_validation, self.delta)
        self._evaluations = EvaluationLosses()

    def invoke_at_step(self, step: int) -> bool:
        """Add this step's losses."""
        losses = list(self.scalars(step, _LOSSES).values())
        if not losses:
            return False
        self.points += 1
        mode = self.mode_of(step)
        over = self._evaluations.add(mode, losses, step - self.mode_step(step))
        if over is not None:
            self._validation.see(over[1])
        if mode is not ModeKeys.EVAL:
            self._training.see(float(np.mean(losses)))
        elif over is None:
            return False
        return self._judge(wait=mode is ModeKeys.TRAIN)

    def invoke_at_end(self) -> bool:
        """Add the last evaluation, which no training follows."""
        over = self._evaluations.end()
        if over is not None:
            self._validation.see(over[1])
        elif self._validation.seen:
            return False
        return self._judge(wait=False)

    def _judge(self, *, wait: bool) -> bool:
        """Whether neither loss improves.

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
    """The best value of a series so far, and how long ago it was.

    Attributes:
        patience: the longest time without a new best.
        delta: the improvement required for a new best.
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

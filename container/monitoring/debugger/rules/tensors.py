"""Rules about any tensors: all zero, of extreme variance, unchanged, unlike another run's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from smdebug.core.modes import ModeKeys
from smdebug.core.s3_utils import list_s3_objects
from smdebug.core.utils import get_path_to_collections, is_s3
from smdebug.trials import create_trial

from container.monitoring.debugger.rules import tensor_values
from container.monitoring.debugger.rules.base import TensorRule, shortened
from container.monitoring.debugger.rules.tensor_values import Array
from container.monitoring.debugger.trial import GrowingTrial, ended, ready
from container.rules.requests import RuleError


@dataclass(kw_only=True, eq=False)
class AllZero(TensorRule):
    """Fires when at least `threshold` percent of a tensor's values are zero.

    A tensor that was saved only as reductions is all zero if its absolute maximum, l1 or l2 norm
    is, or its minimum and maximum are; that less of it is zero cannot be seen.
    Source: SageMaker's developer guide, "AllZero".

    Args:
        threshold: in percent.
    """

    threshold: float

    def invoke_at_step(self, step: int) -> bool:
        """Whether a tensor saved at this global step is zero."""
        zeros = self.measure(step, self.selection, self._zeros)
        beyond = [name for name in zeros if zeros[name] >= self.threshold]
        return bool(beyond) and self.fire(
            f"{len(beyond)} of {len(zeros)} tensors are zero to at least {self.threshold:g} %: "
            f"{shortened(beyond)}"
        )

    def _zeros(self, name: str, step: int) -> float | None:
        """In percent; None where it is unknown."""
        array = self.value(name, step)
        if array is not None and array.size:
            return 100.0 * (1.0 - np.count_nonzero(array) / array.size)
        saved = tensor_values.reductions(self.base_trial, name, step)
        extremes = [saved[key] for key in (("min", False), ("max", False)) if key in saved]
        sizes = [
            number
            for (what, absolute), number in saved.items()
            if what in ("l1", "l2") or (absolute and what in ("max", "mean", "sum"))
        ]
        if 0.0 in sizes or extremes == [0.0, 0.0]:
            return 100.0
        if self.threshold >= 100 and (any(sizes) or any(extremes)):
            return 0.0
        self.unreadable(name, "abs_max", "abs_mean", "l1", "l2")
        return None


@dataclass(kw_only=True, eq=False)
class TensorVariance(TensorRule):
    """Fires when a tensor's variance is above one threshold or below another.

    The variance is the population's, in float64. A tensor of fewer than two values has none, and a
    tensor with a NaN or an infinity is exploding, not varying. Of a tensor saved only as
    reductions, its variance or standard deviation is taken.
    Source: SageMaker's developer guide, "TensorVariance".

    Args:
        max_threshold: None for no upper bound.
        min_threshold: None for no lower bound.

    Raises:
        RuleError: neither threshold is given, or nothing passes both.
    """

    max_threshold: float | None
    min_threshold: float | None

    def __post_init__(self) -> None:
        """Check the thresholds."""
        super().__post_init__()
        if self.max_threshold is None and self.min_threshold is None:
            raise RuleError(
                f"rule {self.rule_name}: one of the parameters 'max_threshold' and "
                "'min_threshold' is required"
            )
        self._highest = np.inf if self.max_threshold is None else self.max_threshold
        self._lowest = -np.inf if self.min_threshold is None else self.min_threshold
        if self._lowest > self._highest:
            raise RuleError(
                f"rule {self.rule_name}: expected min_threshold ≤ max_threshold, found "
                f"{self.min_threshold} and {self.max_threshold}"
            )

    def invoke_at_step(self, step: int) -> bool:
        """Whether a tensor saved at this global step varies too much or too little."""
        variances = self.measure(step, self.selection, self._finite_variance)
        beyond = [n for n, v in variances.items() if v > self._highest or v < self._lowest]
        return bool(beyond) and self.fire(
            f"the variance of {beyond[0]} is {variances[beyond[0]]:.3g}, outside "
            f"{self._lowest:g} to {self._highest:g}; so is that of {len(beyond)} of "
            f"{len(variances)} tensors"
        )

    def _finite_variance(self, name: str, step: int) -> float | None:
        variance = self._variance(name, step)
        return None if variance is None or np.isnan(variance) else variance

    def _variance(self, name: str, step: int) -> float | None:
        array = self.value(name, step)
        if array is not None:
            if array.size < 2:
                self.not_evaluated(f"{name} has fewer than two values")
                return None
            return tensor_values.reduce(array, "variance")
        saved = tensor_values.reductions(self.base_trial, name, step)
        if ("variance", False) in saved:
            return saved["variance", False]
        if ("std", False) in saved:
            return saved["std", False] ** 2
        self.unreadable(name, "variance", "std")
        return None


@dataclass(kw_only=True, eq=False)
class UnchangedTensor(TensorRule):
    """Fires when a tensor is the same at a step and at the `num_steps` − 1 saved before it.

    Same is `numpy.allclose(then, now, rtol, atol, equal_nan)`, that is
    `|then − now| ≤ atol + rtol·|now|` everywhere. A tensor that is saved in training is compared
    over steps of training alone, since an evaluation changes no weights; any other over the steps
    of its own mode. A tensor saved only as reductions is unchanged when all of these are.
    Source: SageMaker's developer guide, "UnchangedTensor".

    Args:
        num_steps: saved steps that have to be the same, the present one included.
        rtol: relative tolerance.
        atol: absolute tolerance.
        equal_nan: whether one NaN is the same as another.

    Raises:
        RuleError: `num_steps` is less than 2.
    """

    num_steps: int
    rtol: float
    atol: float
    equal_nan: bool

    def __post_init__(self) -> None:
        """Check the number of steps."""
        super().__post_init__()
        if self.num_steps < 2:
            raise RuleError(
                f"rule {self.rule_name}: parameter 'num_steps': expected at least 2, found "
                f"{self.num_steps}"
            )
        self._tolerance = {"rtol": self.rtol, "atol": self.atol, "equal_nan": self.equal_nan}

    def invoke_at_step(self, step: int) -> bool:
        """Whether a tensor saved at this global step has not changed."""
        compared = self.measure(step, self.selection, self._unchanged)
        same = [name for name, unchanged in compared.items() if unchanged]
        return bool(same) and self.fire(
            f"{len(same)} of {len(compared)} tensors are the same at the last {self.num_steps} "
            f"saved steps: {shortened(same)}"
        )

    def _unchanged(self, name: str, step: int) -> bool | None:
        """None where there are too few steps yet, or nothing to compare."""
        if not self.in_training(step) and self.base_trial.tensor(name).steps(
            ModeKeys.TRAIN, show_incomplete_steps=True
        ):
            return None
        earlier = self.earlier_steps(name, step)[-(self.num_steps - 1) :]
        if len(earlier) < self.num_steps - 1:
            if not self.points:
                self.not_evaluated(f"{name} was saved at fewer than {self.num_steps} steps")
            return None
        now = tensor_values.content(self.base_trial, name, step)
        if now is None or not now.size:
            self.unreadable(name, "reductions")
            return None
        mode = self.mode_of(step)
        for then_step in reversed(earlier):
            then = tensor_values.content(self.base_trial, name, then_step, mode)
            if then is None:
                return None
            if not _same(then, now, **self._tolerance):
                return False
        return True


@dataclass(kw_only=True, eq=False)
class SimilarAcrossRuns(TensorRule):
    """Fires when a tensor differs from another run's at the same step.

    It guards what should be reproducible. Compared are the tensors of one name at the same step of
    the same mode, those that both runs saved, with `numpy.allclose` and its tolerances of 1e-5
    relative and 1e-8 absolute; a NaN is like another. Another shape is a difference. Of tensors
    saved only as reductions, these are compared.
    Source: SageMaker's developer guide, "SimilarAcrossRuns", says that it compares; the first
    published description of the rules, that it "returns True if tensors are different".

    Args:
        other_trials: folders or S3 prefixes with the tensors of other runs, separated by commas;
            they may still be running. Afterwards the trials themselves, smdebug's own attribute.

    Raises:
        RuleError: another run holds no tensors.
    """

    other_trials: Any
    required: ClassVar[bool] = False

    def read_other_trials(self) -> list[Any]:
        """The other runs' trials."""
        paths = (path.strip() for path in self.other_trials.split(","))
        return [_other_trial(path) for path in paths if path]

    def invoke_at_step(self, step: int) -> bool:
        """Whether a tensor saved at this global step differs from another run's."""
        names = self.names(step, self.selection)
        different: list[str] = []
        compared = 0
        for other in self.other_trials:
            if not other.loaded_all_steps and not self._has(other, step):
                other.refresh_data()  # it may still be running
            for name in names:
                same = self._same(other, name, step)
                if same is not None:
                    compared += 1
                    different += [name] * (not same)
        if not compared and names and not self.points:
            self.not_evaluated(f"{shortened(names)} at this step were not saved by the other run")
        self.points += compared
        return bool(different) and self.fire(
            f"{len(different)} of {compared} tensors differ from the other run's: "
            f"{shortened(different)}"
        )

    def _has(self, other: Any, step: int) -> bool:
        """Whether the other run saved anything at this global step."""
        return other.global_step(self.mode_of(step), self.mode_step(step)) is not None

    def _same(self, other: Any, name: str, step: int) -> bool | None:
        theirs = tensor_values.content(other, name, self.mode_step(step), self.mode_of(step))
        ours = None if theirs is None else tensor_values.content(self.base_trial, name, step)
        if ours is None or theirs is None:
            return None
        return _same(theirs, ours, equal_nan=True)


def _same(then: Array, now: Array, **tolerance: Any) -> bool:
    with np.errstate(all="ignore"):
        return then.shape == now.shape and bool(np.allclose(then, now, **tolerance))


def _other_trial(path: str) -> Any:
    """Another run's trial; smdebug would wait for ever for one that is not there."""
    remote, bucket, prefix = is_s3(path)
    folder = Path(path)
    there = list_s3_objects(bucket, get_path_to_collections(prefix))[0] if remote else ready(folder)
    if not there:
        raise RuleError(
            "rule SimilarAcrossRuns: parameter 'other_trials': expected another run's saved "
            f"tensors, found no collections/ in {path!r}"
        )
    if remote:
        return create_trial(path)
    trial = GrowingTrial(folder)
    while trial.waiting:
        trial.refresh_data()
    if ended(folder):
        trial.finish()
    return trial

"""Rules about predictions on images with known labels.

Sources: the SageMaker developer guide's list of built-in Debugger rules, which gives parameters and
meaning; each class documents how it interprets formulas that are ambiguous or wrong.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from smdebug.core.modes import ModeKeys

from container.monitoring.debugger.rules.base import DebugRule, shortened
from container.monitoring.debugger.rules.selection import Selection

Counts = NDArray[np.int64]


@dataclass(kw_only=True, eq=False)
class _PredictionRule(DebugRule):
    """A rule that reads pairs of a label and a prediction.

    Args:
        base_trial: an smdebug trial with labels (N,) and predictions, classes (N,) or
            probabilities (N, classes).
        labels_regex, predictions_regex: expressions for the two tensors.
    """

    labels_regex: str
    predictions_regex: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labels = self._selection("labels")
        self.predictions = self._selection("predictions")
        self._judged = False

    def _selection(self, kind: str) -> Selection:
        """The tensors of a kind, by the parameters named after it."""
        return Selection.read(
            self.rule_name,
            collection_names=getattr(self, f"{kind}_collection", None),
            tensor_regex=getattr(self, f"{kind}_regex"),
            regex_parameter=f"{kind}_regex",
        )

    def pairs(self, step: int, *, argmax: bool = False) -> tuple[Counts, Counts, int] | None:
        """The labels and predictions saved at a global step.

        Args:
            step: the step.
            argmax: whether a vector of numbers is one image's probabilities.

        Returns:
            Labels and predicted classes, both int64 (N,), and how many classes the predictions
            have (0 where that is unknown); None where one of the two is missing or their
            shapes do not match.
        """
        found = []
        for selection in (self.labels, self.predictions):
            names = self.names(step, selection)
            values = (self.value(name, step) for name in names)
            value = next((v for v in values if v is not None and v.size), None)
            if value is None:
                if names and not self.points:
                    self.unreadable(names[0])
                return None
            found.append(value)
        known = found[1].shape[-1] if found[1].ndim > 1 or (argmax and found[1].ndim) else 0
        if found[1].ndim == 1 and argmax:
            found[1] = found[1][None]
        labels, predictions = (
            v.reshape(-1, v.shape[-1]).argmax(1) if v.ndim > 1 else np.rint(v).reshape(-1)
            for v in found
        )
        if labels.shape != predictions.shape:
            self.not_evaluated(
                f"{len(labels)} labels and {len(predictions)} predictions at step {step}"
            )
            return None
        return labels.astype(np.int64), predictions.astype(np.int64), known


def _tally(labels: Counts, predictions: Counts, classes: int) -> Counts:
    """A confusion matrix (classes, classes): rows are labels, columns predictions.

    Skips pairs with a class outside of it, such as an "ignore" label.
    """
    inside = (labels >= 0) & (labels < classes) & (predictions >= 0) & (predictions < classes)
    flat = labels[inside] * classes + predictions[inside]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def _grown(matrix: Counts, classes: int) -> Counts:
    """The matrix, extended to more classes."""
    missing = max(0, classes - len(matrix))
    return np.pad(matrix, (0, missing)) if missing else matrix


@dataclass(kw_only=True, eq=False)
class ClassImbalance(_PredictionRule):
    """Fires when some classes are rare or mostly mispredicted.

    The labels of the training steps are counted until there are `samples` of them; then it fires

    1. when the largest class has more than `threshold_imbalance` times the samples of the smallest,
       a class that was not seen counting as one sample;
    2. when of one class more than the fraction `threshold_misprediction` is mispredicted, though
       not more than that of all samples together: a network that is wrong about everything has not
       learnt yet, and its classes' sizes have nothing to do with it;

    and the count begins again. The default of 500 samples is meant for ten classes; for more it
    grows in proportion, or chance alone would make classes look unequal.

    Args:
        threshold_imbalance: as above.
        threshold_misprediction: as above.
        samples: as above, for up to ten classes.
        argmax: whether a single vector of predictions is one image's probabilities; predictions
            (N, classes) are taken for probabilities in any case.
    """

    threshold_imbalance: float
    threshold_misprediction: float
    samples: int
    argmax: bool

    def __post_init__(self) -> None:
        """No label has been counted yet."""
        super().__post_init__()
        self._matrix: Counts = np.zeros((0, 0), np.int64)

    def invoke_at_step(self, step: int) -> bool:
        """Count this step's labels; judge when there are enough."""
        if not self.in_training(step):
            return False
        pairs = self.pairs(step, argmax=self.argmax)
        if pairs is None:
            return False
        labels, predictions, known = pairs
        self.points += len(labels)
        classes = max(known, int(labels.max()) + 1, int(predictions.max()) + 1, len(self._matrix))
        self._matrix = _grown(self._matrix, classes) + _tally(labels, predictions, classes)
        needed = max(1, self.samples) * max(1.0, classes / 10)
        if self._matrix.sum() < needed:
            if not self._judged:
                self._reason = (
                    f"not judged: {self._matrix.sum()} labels so far, {needed:.0f} needed for "
                    f"{classes} classes"
                )
            return False
        reasons = self._judge()
        self._matrix, self._judged, self._reason = np.zeros_like(self._matrix), True, ""
        return self.fire("; ".join(reasons)) if reasons else False

    def _judge(self) -> list[str]:
        counts = self._matrix.sum(axis=1)
        reasons = []
        largest, smallest = int(counts.argmax()), int(counts.argmin())
        ratio = counts[largest] / max(1, counts[smallest])
        if ratio > self.threshold_imbalance:
            reasons.append(
                f"class {largest} has {counts[largest]} of {counts.sum()} samples and class "
                f"{smallest} has {counts[smallest]}: more than {self.threshold_imbalance:g} to 1"
            )
        seen = np.flatnonzero(counts)
        mistaken = 1 - self._matrix.diagonal()[seen] / counts[seen]
        overall = 1 - self._matrix.diagonal().sum() / counts.sum()
        worst = [
            f"class {label} ({100 * fraction:.0f} % of {counts[label]})"
            for label, fraction in zip(seen, mistaken, strict=True)
            if fraction > self.threshold_misprediction >= overall
        ]
        if worst:
            reasons.append(
                f"mostly mispredicted: {shortened(worst)}, against {100 * overall:.0f} % of all"
            )
        return reasons


@dataclass(kw_only=True, eq=False)
class Confusion(_PredictionRule):
    """Fires when the confusion matrix is weak on its diagonal or strong off it.

    `matrix[label][prediction]` counts the pairs that were saved; once every class has been seen
    `SEEN` times it is judged, and begins again. Training and evaluation have a matrix each. It
    fires unless, for all classes i and j other than i,

        matrix[i][i] / sum_k matrix[k][i] >= min_diag
        matrix[j][i] / sum_k matrix[k][i] <= max_off_diag

    so both are shares of those predicted to be i. The guide divides the diagonal by
    `sum_j matrix[j][j]`, the sum of the diagonal itself, of which only one class could ever have
    0.9; that cannot be meant. A class that is never predicted has nothing on its diagonal.

    Args:
        labels_collection, predictions_collection: collections to look for them, besides.
        min_diag: as above.
        max_off_diag: as above.
        category_no: the number of classes; by default as many as the predictions know, or as have
            been seen.
    """

    SEEN: ClassVar[int] = 10
    """How often a class must have been seen: of fewer, one error is more than a tenth."""

    labels_collection: str
    predictions_collection: str
    min_diag: float
    max_off_diag: float
    category_no: int | None

    def __post_init__(self) -> None:
        """No pair has been counted yet."""
        super().__post_init__()
        self._matrices: dict[ModeKeys, Counts] = {}

    def invoke_at_step(self, step: int) -> bool:
        """Count this step's pairs; judge when every class has been seen."""
        pairs = self.pairs(step)
        if pairs is None:
            return False
        labels, predictions, known = pairs
        self.points += len(labels)
        mode = self.mode_of(step)
        matrix = self._matrices.get(mode, np.zeros((0, 0), np.int64))
        classes = self.category_no or max(
            known, int(labels.max()) + 1, int(predictions.max()) + 1, len(matrix)
        )
        matrix = self._matrices[mode] = _grown(matrix, classes) + _tally(
            labels, predictions, classes
        )
        seen = matrix.sum(axis=1)
        if len(seen) < 2 or seen.min() < self.SEEN:
            if not self._judged:
                self._reason = (
                    f"not judged: class {int(seen.argmin())} was seen {seen.min()} times, "
                    f"{self.SEEN} needed"
                )
            return False
        weak, strong = self._judge(matrix)
        del self._matrices[mode]
        self._judged, self._reason = True, ""
        reasons = []
        if weak:
            reasons.append(f"on the diagonal below {self.min_diag:g}: {shortened(weak)}")
        if strong:
            reasons.append(f"off it above {self.max_off_diag:g}: {shortened(strong)}")
        return self.fire("; ".join(reasons)) if reasons else False

    def _judge(self, matrix: Counts) -> tuple[list[str], list[str]]:
        predicted = matrix.sum(axis=0)
        shares = matrix / np.maximum(1, predicted)
        diagonal = shares.diagonal()
        weak = [
            f"class {i} ({diagonal[i]:.2f})" if predicted[i] else f"class {i} (never predicted)"
            for i in np.argsort(diagonal, kind="stable")
            if diagonal[i] < self.min_diag
        ]
        off = shares - np.diag(diagonal)
        order = np.argsort(-off, axis=None, kind="stable")
        places = (divmod(int(p), len(matrix)) for p in order)
        strong = [
            f"class {label} among those predicted {prediction} ({off[label, prediction]:.2f})"
            for label, prediction in places
            if off[label, prediction] > self.max_off_diag
        ]
        return weak, strong

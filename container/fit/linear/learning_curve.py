"""Learning curves on features: what more images would bring, and of which class.

The error of many classifiers falls with the number of images as a power law, error = a x images^-b
(Cortes et al. 1993, Learning curves: asymptotic values and rate of convergence; Hestness et al.
2017, Deep learning scaling is predictable, empirically), which is a line between the logarithms.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from container.fit.linear.probes import FeatureTable
from container.fit.linear.selection import LabelledFeatures
from container.fit.linear.validation import SMALL, fold_numbers, folds_for, subset

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the images at which to measure the curve."""
REPEATS = 3
"""Random draws of each share."""
FEWEST = 4
"""Images that each class must have at a share for the curve to use it."""
MOST_CLASSES = 20
"""Classes to halve, at most: those with the most wrong predictions."""
MOST_IMAGES = 10_000
"""Images to use for a curve, at most."""
ITERATIONS = 40
"""Iterations of each probe: few are enough to compare them."""


class NoCurve(Exception):
    """There is no learning curve; the message says why."""


@dataclass(frozen=True)
class LearningCurve:
    """Error by number of training images.

    Attributes:
        images: number of images at each point.
        accuracies: 0..1, on held-out images.
        doubled: the accuracy expected with twice the images.
        factor, exponent: error = factor x images ^ -exponent.
    """

    images: tuple[int, ...]
    accuracies: tuple[float, ...]
    doubled: float
    factor: float
    exponent: float

    def accuracy(self, images: float) -> float:
        """The accuracy that the power law predicts for a number of images."""
        return 1 - min(1.0, self.factor * math.pow(images, -self.exponent))


@dataclass(frozen=True)
class Halving:
    """The accuracy lost without half of one class's training images.

    Attributes:
        name: the class.
        images: number of its training images.
        loss: lost accuracy over all held-out images, 0..1; more images of a class with a high loss
            help most.
        error: the standard error of the loss.
    """

    name: str
    images: int
    loss: float
    error: float


class CurveData:
    """Features split into training and held-out images, once or by folds.

    Args:
        train, validation: the features. The validation images are held out; if there are fewer than
            `SMALL`, all images are split into folds.
        classes: the classes' names.
        strength: L2 strength of the probes.
        seed: seed of every draw.
        require_running: raises if the job must stop; called between probes.
    """

    def __init__(
        self,
        train: LabelledFeatures,
        validation: LabelledFeatures,
        classes: Sequence[str],
        strength: float,
        seed: int,
        device: torch.device | None = None,
        require_running: Callable[[], None] = lambda: None,
    ) -> None:
        self._require_running = require_running
        train = train.take(subset(train.labels, MOST_IMAGES, seed))
        together = train.with_more(validation.take(subset(validation.labels, MOST_IMAGES, seed)))
        self.classes, self.strength, self.seed = tuple(classes), strength, seed
        self.labels = together.labels
        first = np.arange(len(together)) < len(train)
        if len(validation) >= SMALL:
            self._splits = [(np.flatnonzero(first), np.flatnonzero(~first))]
        else:
            folds = folds_for(self.labels)
            numbers = fold_numbers(self.labels, folds, seed)
            self._splits = [
                (np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold))
                for fold in range(folds)
            ]
        self._table = FeatureTable(together.values, together.labels, len(classes), device)

    def curve(self) -> LearningCurve:
        """Measure the learning curve.

        Raises:
            NoCurve: there are too few images, no mistakes, or more images do not help.
        """
        used = [kept for kept, _ in self._splits]
        fewest = min(int(_counts(self.labels[kept]).min()) for kept in used)
        shares = [share for share in SHARES if share * fewest >= FEWEST]
        if len(shares) < 3:
            raise NoCurve(
                f"the smallest class has {fewest} training images, expected "
                f"{math.ceil(FEWEST / SHARES[-3])} or more"
            )
        whole = sum(map(len, used)) / len(used)
        images, accuracies = [], []
        for share in shares:
            drawn = [
                (self._share(kept, share, repeat), held)
                for kept, held in self._splits
                for repeat in range(REPEATS if share < 1 else 1)
            ]
            images.append(round(share * whole))
            accuracies.append(float(np.concatenate(self._right(drawn)).mean()))
        return power_law(images, accuracies)

    def halvings(self) -> list[Halving]:
        """Halve each class in turn; returns the highest loss first."""
        right = np.concatenate(self._right(self._splits))
        held_labels = np.concatenate([self.labels[held] for _, held in self._splits])
        mistakes = np.bincount(held_labels[~right], minlength=len(self.classes))
        found = []
        for label in np.argsort(-mistakes, kind="stable")[:MOST_CLASSES]:
            if int((self.labels == label).sum()) < 2 * FEWEST:
                continue
            drawn = [(self._without_half(kept, int(label)), held) for kept, held in self._splits]
            worse = np.concatenate(self._right(drawn))
            lost = right.astype(np.float64) - worse
            found.append(
                Halving(
                    self.classes[label],
                    int((self.labels == label).sum()),
                    float(lost.mean()),
                    float(lost.std() / math.sqrt(len(lost))),
                )
            )
        return sorted(found, key=lambda each: -each.loss)

    def _share(
        self, kept: npt.NDArray[np.int64], share: float, repeat: int
    ) -> npt.NDArray[np.int64]:
        labels = self.labels[kept]
        return kept[subset(labels, round(share * len(labels)), self.seed + repeat)]

    def _without_half(self, kept: npt.NDArray[np.int64], label: int) -> npt.NDArray[np.int64]:
        members = kept[self.labels[kept] == label]
        order = np.random.default_rng((self.seed, label)).permutation(members)
        return np.setdiff1d(kept, order[: len(members) // 2])

    def _right(
        self, splits: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
    ) -> list[npt.NDArray[np.bool_]]:
        """Fit a probe to each split; returns which of its held-out images are predicted right."""
        masks = np.zeros((len(splits), len(self.labels)), dtype=np.bool_)
        for mask, (kept, _) in zip(masks, splits, strict=True):
            mask[kept] = True
        self._require_running()
        solution = self._table.solve((self.strength,), masks, ITERATIONS)
        return [
            solution.logits(at)[0, held].argmax(1) == self.labels[held]
            for at, (_, held) in enumerate(splits)
        ]


def advise(curve: LearningCurve | None, halvings: Sequence[Halving]) -> str:
    """Advice on which images to collect next, in a sentence or two."""
    more = ""
    if curve is not None:
        more = (
            f"twice the photographs of every class would raise accuracy from about "
            f"{curve.accuracies[-1]:.1%} to about {curve.doubled:.1%}"
        )
    clear = [each for each in halvings if each.loss > 2 * each.error]
    if clear:
        first = clear[0]
        named = (
            f"twice the photographs of {first.name!r} would help most: with half of its "
            f"{first.images} the accuracy over all classes falls by {100 * first.loss:.1f} ± "
            f"{100 * first.error:.1f} points"
        )
        return f"{named}; {more}" if more else named
    if not halvings:
        return more or "too few images to say which class more photographs would help"
    alike = "no class stands out as the one of which more photographs would help most"
    return f"{more}; {alike}" if more else alike


def power_law(images: Sequence[int], accuracies: Sequence[float]) -> LearningCurve:
    """Least squares between the logarithms of images and errors.

    Raises:
        NoCurve: an error is 0, whose logarithm does not exist, or errors do not fall.
    """
    errors = 1 - np.array(accuracies)
    if errors.min() <= 0:
        raise NoCurve("a probe made no mistake on the held-out images")
    slope, offset = np.polyfit(np.log(images), np.log(errors), 1)
    if slope >= 0:
        raise NoCurve("on these features more images do not lower the error")
    factor = math.exp(offset)
    # From the last measured point, which the fitted line need not pass through.
    doubled = 1 - float(errors[-1]) * 2.0 ** float(slope)
    return LearningCurve(tuple(images), tuple(accuracies), doubled, factor, -float(slope))


def _counts(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    counts = np.bincount(labels)
    return counts[counts > 0]

"""How probes are compared: held-out predictions, stratified folds and intervals."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from container.data.splits import stratified

FOLDS = 5
SMALL = 400
"""Validation images below which probes are cross-validated: 95 % intervals of 400 are 5 points
wide."""
FEW = 4
"""Images of a class from which a sample says something about it."""
CONFIDENCE = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class HeldOut:
    """Accuracy on images that the classifier was not fitted to.

    Attributes:
        hits, images: number of correct predictions and of images.
        loss: mean cross-entropy.
    """

    hits: int
    images: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.hits / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % confidence interval."""
        return wilson(self.hits, self.images)

    def better_than(self, other: "HeldOut") -> bool:
        """Whether this is more accurate, or as accurate at a lower loss, on the same images."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> "HeldOut":
        """Compute from logits (N, C) and labels (N,)."""
        hits = int((logits.argmax(1) == labels).sum())
        return cls(hits, len(labels), cross_entropy(logits, labels))


def wilson(hits: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    Wilson 1927, Probable inference; its coverage stays near 95 % for few images and shares near 1,
    where hits +- 2 standard deviations fails (Brown, Cai and DasGupta 2001).
    """
    if images == 0:
        return 0.0, 1.0
    share, square = hits / images, CONFIDENCE**2
    middle = (share + square / (2 * images)) / (1 + square / images)
    half = CONFIDENCE * math.sqrt(share * (1 - share) / images + square / (4 * images**2))
    half /= 1 + square / images
    # The bounds for 0 and for all hits are exact; computing them gives rounding errors.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return low, 1.0 if hits == images else min(1.0, middle + half)


def cross_entropy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Mean cross-entropy of logits (N, C)."""
    shifted = logits - logits.max(1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels[:, None], 1)[:, 0]
    return float((np.log(np.exp(shifted).sum(1)) - chosen).mean())


def fold_numbers(labels: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold, 0 to `folds` - 1, that holds out each image, int64 (N,), stratified by class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    numbers = np.empty(len(labels), dtype=np.int64)
    dealt = 0
    for label in np.unique(labels):
        members = order[labels[order] == label]
        numbers[members] = (np.arange(len(members)) + dealt) % folds
        dealt += len(members)
    return numbers


def folds_for(labels: npt.NDArray[np.int64]) -> int:
    """`FOLDS`, or as many as the smallest class has images; at least 2."""
    counts = np.bincount(labels)
    return max(2, min(FOLDS, int(counts[counts > 0].min())))


def subset(labels: npt.NDArray[np.int64], images: int, seed: int) -> npt.NDArray[np.int64]:
    """Sorted positions of about `images` images, stratified by class if any class has two."""
    if images >= len(labels):
        return np.arange(len(labels))
    if np.bincount(labels).max() < 2:
        return np.sort(np.random.default_rng(seed).permutation(len(labels))[:images])
    return stratified(labels, images / len(labels), seed)[1]


def sample(labels: npt.NDArray[np.int64], images: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions, sorted, of at most about `images` images, `FEW` or more of each of their classes.

    With more classes than that leaves room for, of some of the classes, drawn at random; of any
    images where no class has two.
    """
    counts = np.bincount(labels)
    several = np.flatnonzero(counts > 1)
    room = max(2, images // FEW)
    if images >= len(labels) or (counts > 0).sum() <= room or len(several) < 2:
        return subset(labels, images, seed)
    drawn = np.random.default_rng(seed).permutation(several)[:room]
    members = np.flatnonzero(np.isin(labels, drawn))
    return members[subset(labels[members], images, seed)]


def can_be_folded(labels: npt.NDArray[np.int64]) -> bool:
    """Whether every class has an image for at least two folds."""
    counts = np.bincount(labels)
    return int(counts[counts > 0].min()) >= 2

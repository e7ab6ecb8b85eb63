"""Which strength of a probe is best, by cross-validation or by the validation images."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from container.fit.linear.probes import FINAL_ITERATIONS, STRENGTHS, FeatureTable, Probe
from container.fit.linear.validation import (
    SMALL,
    HeldOut,
    can_be_folded,
    fold_numbers,
    folds_for,
    subset,
)

SEARCHED = 20_000
"""Training images by which a strength is chosen, at most; the chosen probe is fitted to all."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of a split's images: float16 or float32 (N, F), and labels int64 (N,)."""

    values: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def take(self, positions: npt.NDArray[np.int64]) -> "LabelledFeatures":
        """Those at some positions."""
        return LabelledFeatures(self.values[positions], self.labels[positions])

    def with_more(self, other: "LabelledFeatures") -> "LabelledFeatures":
        """These, and then the others."""
        return LabelledFeatures(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.labels, other.labels]),
        )


@dataclass(frozen=True)
class ProbeChoice:
    """The best strength of a backbone's probe.

    Attributes:
        probe: of that strength, fitted to the training images.
        compared: its accuracy on held-out images, by which backbones are compared.
        how: which images those are.
        validation: its accuracy on the validation images.
    """

    probe: Probe
    compared: HeldOut
    how: str
    validation: HeldOut


def choose_probe(
    train: LabelledFeatures,
    validation: LabelledFeatures,
    classes: int,
    seed: int,
    device: torch.device | None = None,
) -> ProbeChoice:
    """Search the strengths.

    With fewer than `SMALL` validation images by stratified cross-validation of the training images,
    else by the validation images.
    """
    searched = train.take(subset(train.labels, SEARCHED, seed))
    if len(validation) < SMALL and can_be_folded(searched.labels):
        strength, compared, how = cross_validated(searched, classes, seed, device)
    else:
        table = FeatureTable(searched.values, searched.labels, classes, device)
        solution = table.solve()
        found = [
            HeldOut.of(solution.probe(0, at).logits(validation.values), validation.labels)
            for at in range(len(STRENGTHS))
        ]
        at = _best(found)
        strength, compared = STRENGTHS[at], found[at]
        how = f"{len(validation):,} validation images"
    probe = fit_probe(train, classes, strength, device)
    held_out = HeldOut.of(probe.logits(validation.values), validation.labels)
    if how.endswith("validation images"):
        compared = held_out
    return ProbeChoice(probe, compared, how, held_out)


def fit_probe(
    features: LabelledFeatures, classes: int, strength: float, device: torch.device | None = None
) -> Probe:
    """A probe of one strength, fitted to all of some features."""
    table = FeatureTable(features.values, features.labels, classes, device)
    return table.solve((strength,), iterations=FINAL_ITERATIONS).probe(0, 0)


def cross_validated(
    features: LabelledFeatures, classes: int, seed: int, device: torch.device | None = None
) -> tuple[float, HeldOut, str]:
    """The best strength by stratified folds, its accuracy on the images each fold held out, how."""
    folds = folds_for(features.labels)
    numbers = fold_numbers(features.labels, folds, seed)
    table = FeatureTable(features.values, features.labels, classes, device)
    masks = np.stack([numbers != fold for fold in range(folds)])
    solution = table.solve(masks=masks)
    logits = np.empty((len(STRENGTHS), len(features), classes), dtype=np.float32)
    for fold in range(folds):
        held = numbers == fold
        logits[:, held] = solution.logits(fold)[:, held]
    found = [HeldOut.of(each, features.labels) for each in logits]
    at = _best(found)
    return STRENGTHS[at], found[at], f"{len(features):,} images, {folds}-fold cross-validation"


def _best(found: list[HeldOut]) -> int:
    """The most accurate; of equals that of the lowest loss."""
    return max(range(len(found)), key=lambda at: (found[at].accuracy, -found[at].loss))

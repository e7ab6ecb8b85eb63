"""Selects the L2 strength of a probe, by cross-validation or on the validation images."""

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
"""Training images to choose a strength with, at most; the chosen probe is fitted to all."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of a split's images: float16 or float32 (N, F), and labels int64 (N,)."""

    values: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def take(self, positions: npt.NDArray[np.int64]) -> "LabelledFeatures":
        """The features at some positions."""
        return LabelledFeatures(self.values[positions], self.labels[positions])

    def with_more(self, other: "LabelledFeatures") -> "LabelledFeatures":
        """These features followed by others."""
        return LabelledFeatures(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.labels, other.labels]),
        )


@dataclass(frozen=True)
class ProbeChoice:
    """The best strength of a backbone's probe.

    Attributes:
        probe: the probe of that strength, fitted to the training images.
        compared: its accuracy on held-out images, by which backbones are compared.
        how: a description of those images.
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
    """Choose a probe's strength on the validation images.

    If there are fewer than `SMALL`, by stratified cross-validation on the training images.
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
    """Fit a probe of one strength."""
    table = FeatureTable(features.values, features.labels, classes, device)
    return table.solve((strength,), iterations=FINAL_ITERATIONS).probe(0, 0)


def cross_validated(
    features: LabelledFeatures, classes: int, seed: int, device: torch.device | None = None
) -> tuple[float, HeldOut, str]:
    """The best strength by stratified cross-validation, its accuracy, and a description."""
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
    """The position of the most accurate; ties are broken by the lower loss."""
    return max(range(len(found)), key=lambda at: (found[at].accuracy, -found[at].loss))

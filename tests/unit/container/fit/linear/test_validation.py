import numpy as np
import pytest
import torch

from container.fit.linear.validation import (
    HeldOut,
    cross_entropy,
    fold_numbers,
    folds_for,
    sample,
    subset,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    [
        # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_matches_wilsons(hits: int, images: int, low: float, high: float) -> None:
    assert wilson(hits, images) == pytest.approx((low, high), abs=5e-5)
    assert wilson(images - hits, images) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_without_images_the_interval_is_zero_to_one() -> None:
    assert wilson(0, 0) == (0, 1)


def test_the_loss_is_pytorchs_cross_entropy() -> None:
    logits = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32) * 50
    labels = np.arange(9) % 4
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    assert cross_entropy(logits, labels) == pytest.approx(float(expected), rel=1e-5)


def test_higher_accuracy_is_better_and_lower_loss_breaks_ties() -> None:
    assert HeldOut(9, 10, 2.0).better_than(HeldOut(8, 10, 0.1))
    assert HeldOut(9, 10, 0.1).better_than(HeldOut(9, 10, 0.2))
    assert not HeldOut(9, 10, 0.1).better_than(HeldOut(9, 10, 0.1))


def test_folds_divide_each_class_evenly() -> None:
    labels = np.array([0] * 11 + [1] * 7 + [2] * 5)
    numbers = fold_numbers(labels, 5, seed=3)
    for label in range(3):
        dealt = np.bincount(numbers[labels == label], minlength=5)
        assert dealt.max() - dealt.min() <= 1
    assert np.ptp(np.bincount(numbers)) <= 1
    assert (fold_numbers(labels, 5, seed=3) == numbers).all()
    assert (fold_numbers(labels, 5, seed=4) != numbers).any()


def test_small_classes_have_fewer_folds() -> None:
    assert folds_for(np.array([0] * 3 + [2] * 9)) == 3
    assert folds_for(np.array([0, 1, 1])) == 2


def test_a_subset_keeps_class_proportions() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    assert np.bincount(labels[subset(labels, 50, 0)]).tolist() == [40, 10]
    assert len(subset(labels, 200, 0)) == 100


def test_a_subset_of_classes_with_one_image_each_is_random() -> None:
    assert len(subset(np.arange(50), 20, 0)) == 20
    assert (subset(np.arange(50), 20, 0) != subset(np.arange(50), 20, 1)).any()


@pytest.mark.parametrize("per_class", [2, 4, 30])
def test_a_sample_of_many_classes_has_some_classes_only(per_class: int) -> None:
    labels = np.repeat(np.arange(500), per_class)
    counts = np.bincount(labels[sample(labels, 300, 0)])
    assert counts[counts > 0].min() >= 2
    assert (counts > 0).sum() == 75
    assert counts.sum() <= 300


@pytest.mark.parametrize(
    "labels",
    [np.repeat(np.arange(3), 200), np.arange(500), np.array([0, 0, 1, 1]), np.arange(400) // 2 * 2],
)
def test_a_sample_is_never_much_larger_than_requested(labels: np.ndarray) -> None:
    found = sample(labels, 300, 0)
    assert len(set(labels[found].tolist())) >= 2
    assert len(found) == len(set(found.tolist())) <= 305

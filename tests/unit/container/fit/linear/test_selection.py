import numpy as np
import pytest

from container.fit.linear.probes import STRENGTHS
from container.fit.linear.selection import (
    LabelledFeatures,
    choose_probe,
    cross_validated,
    fit_probe,
)
from container.fit.linear.validation import HeldOut
from tests.unit.container.fit.synthetic import clouds


def test_with_few_validation_images_strengths_are_chosen_by_cross_validation() -> None:
    train, validation = clouds(40, spread=3), clouds(5, spread=3, seed=1)
    choice = choose_probe(train, validation, 3, seed=0)
    assert choice.compared.images == len(train)
    assert "5-fold" in choice.how
    assert choice.validation.images == len(validation)


def test_with_many_validation_images_strengths_are_chosen_by_them() -> None:
    train, validation = clouds(20, spread=3), clouds(140, spread=3, seed=1)
    choice = choose_probe(train, validation, 3, seed=0)
    assert choice.compared == choice.validation
    assert choice.compared.images == 420
    others = [
        HeldOut.of(fit_probe(train, 3, each).logits(validation.values), validation.labels)
        for each in STRENGTHS
    ]
    assert choice.validation.accuracy >= max(other.accuracy for other in others) - 0.01


def test_cross_validation_predicts_accuracy_on_new_images() -> None:
    train, later = clouds(100, spread=4), clouds(400, spread=4, seed=5)
    strength, compared, _ = cross_validated(train, 3, seed=0)
    found = HeldOut.of(fit_probe(train, 3, strength).logits(later.values), later.labels)
    low, high = compared.interval
    assert low <= found.accuracy <= high


def test_shuffled_labels_give_low_accuracy() -> None:
    train = clouds(60)
    shuffled = np.random.default_rng(0).permutation(train.labels)
    _, compared, _ = cross_validated(type(train)(train.values, shuffled), 3, seed=0)
    assert compared.accuracy < 0.5


def test_a_class_with_a_single_image_prevents_cross_validation() -> None:
    train, validation = clouds(20), clouds(3, seed=1)
    lone = train.take(np.flatnonzero((train.labels != 2) | (np.arange(60) == 59)))
    choice = choose_probe(lone, validation, 3, seed=0)
    assert choice.compared.images == len(validation)


def test_the_same_seed_makes_the_same_choice() -> None:
    train, validation = clouds(30, spread=4), clouds(4, spread=4, seed=1)
    one, other = (choose_probe(train, validation, 3, seed=4) for _ in range(2))
    assert one.compared == other.compared
    assert (one.probe.weight == other.probe.weight).all()


@pytest.mark.parametrize("width", [5, 40])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_identical_images_are_predicted_as_the_most_common_class(width: int, value: float) -> None:
    labels = np.array([0, 1, 1] * 5)
    same = LabelledFeatures(np.full((15, width), value, dtype=np.float32), labels)
    choice = choose_probe(same, same.take(np.arange(6)), 2, seed=0)
    assert (choice.probe.logits(same.values).argmax(1) == 1).all()
    assert choice.validation.accuracy == pytest.approx(4 / 6)

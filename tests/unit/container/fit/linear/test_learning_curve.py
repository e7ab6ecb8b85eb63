from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from container.fit.linear.learning_curve import (
    CurveData,
    Halving,
    LearningCurve,
    NoCurve,
    advise,
    power_law,
)
from container.training.checkpoint import Interrupted
from tests.unit.container.fit.synthetic import clouds

NAMES = ("ants", "bees", "wasps")


def test_accuracy_grows_with_the_number_of_images() -> None:
    data = CurveData(clouds(64, spread=6), clouds(200, spread=6, seed=1), NAMES, 0.1, seed=0)
    curve = data.curve()
    assert curve.images == (24, 48, 96, 192)
    assert curve.accuracies[0] < curve.accuracies[-1] < curve.doubled < 1


def test_with_few_validation_images_all_images_are_cross_validated() -> None:
    curve = CurveData(clouds(50, spread=6), clouds(10, spread=6, seed=1), NAMES, 0.1, 0).curve()
    assert curve.images[-1] == 144  # four fifths of 180


def test_too_few_images_have_no_curve() -> None:
    with pytest.raises(NoCurve, match="smallest class has 5 training images, expected 16"):
        CurveData(clouds(5), clouds(200, seed=1), NAMES, 0.1, 0).curve()


def test_without_mistakes_there_is_no_curve() -> None:
    with pytest.raises(NoCurve, match="no mistake"):
        CurveData(clouds(40, spread=0.01), clouds(150, spread=0.01), NAMES, 0.1, 0).curve()


def test_the_class_with_too_few_images_is_named() -> None:
    many, later = clouds(120, spread=3.5), clouds(200, spread=3.5, seed=1)
    few = many.take(np.flatnonzero((many.labels != 1) | (np.arange(360) % 120 < 10)))
    first = CurveData(few, later, NAMES, 0.01, seed=0).halvings()[0]
    assert (first.name, first.images) == ("bees", 210)
    assert first.loss > 0


@pytest.mark.parametrize("part", [CurveData.curve, CurveData.halvings])
def test_a_stopped_job_computes_no_further_points(part: Callable[[CurveData], Any]) -> None:
    def stop() -> None:
        raise Interrupted("stopped")

    later = clouds(200, spread=6, seed=1)
    data = CurveData(clouds(64, spread=6), later, NAMES, 0.1, 0, require_running=stop)
    with pytest.raises(Interrupted):
        part(data)


def test_advice_names_a_class_only_if_it_stands_out() -> None:
    curve = LearningCurve((10, 20, 40), (0.7, 0.8, 0.9), 0.93, 1.0, 0.5)
    clear = [Halving("bees", 20, 0.03, 0.004), Halving("ants", 20, 0.0, 0.004)]
    assert advise(curve, clear).startswith("twice the photographs of 'bees' would help most")
    assert "3.0 ± 0.4 points" in advise(curve, clear)
    blurred = [Halving("bees", 20, 0.03, 0.02)]
    assert "'bees'" not in advise(curve, blurred)
    assert "90.0% to about 93.0%" in advise(curve, blurred)
    assert "too few images" in advise(None, [])


def test_without_improvement_from_more_images_there_is_no_curve() -> None:
    with pytest.raises(NoCurve, match="do not lower"):
        power_law([10, 20, 40], [0.6, 0.55, 0.58])


def test_a_power_law_extrapolates_from_the_last_point() -> None:
    curve = power_law([100, 200, 400], [1 - 0.4, 1 - 0.2, 1 - 0.1])
    assert curve.doubled == pytest.approx(1 - 0.05)
    assert curve.accuracy(1600) == pytest.approx(1 - 0.025)

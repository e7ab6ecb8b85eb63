import json
from dataclasses import asdict, replace

import pytest

from container.precisions import Bfloat16, Int8

MEASURED = Bfloat16(
    images=200, accuracy=0.9, float32_accuracy=0.905, same_label=0.985, max_difference=0.0123
)


def test_a_bfloat16_comparison_round_trips() -> None:
    assert Bfloat16.from_json(json.loads(json.dumps(asdict(MEASURED)))) == MEASURED


@pytest.mark.parametrize(
    ("accuracy", "good_enough"), [(0.9, True), (0.8, True), (0.792, True), (0.79, False)]
)
def test_bfloat16_may_lose_one_hundredth_of_float32s_accuracy(
    accuracy: float, good_enough: bool
) -> None:
    measured = replace(MEASURED, accuracy=accuracy, float32_accuracy=0.8)
    assert measured.good_enough is good_enough


def test_the_line_for_a_log() -> None:
    assert str(MEASURED) == (
        "accuracy 0.9000 on 200 images, 0.9050 in float32; 98.5 % of labels the same, "
        "probabilities within 1.2e-02"
    )


QUANTIZED = Int8(**asdict(MEASURED), tolerance=0.5, calibration_images=128)


def test_an_int8_comparison_round_trips() -> None:
    assert Int8.from_json(json.loads(json.dumps(asdict(QUANTIZED)))) == QUANTIZED


@pytest.mark.parametrize(
    ("accuracy", "tolerance", "good_enough"),
    [(0.9, 0.5, True), (0.95, 0, True), (0.905, 0, True), (0.895, 1, True), (0.8949, 1, False)],
)
def test_int8_may_lose_accuracy_up_to_the_tolerance(
    accuracy: float, tolerance: float, good_enough: bool
) -> None:
    measured = replace(QUANTIZED, accuracy=accuracy, tolerance=tolerance)
    assert measured.good_enough is good_enough

import json
from dataclasses import asdict, replace

import pytest

from container.artifact import Bfloat16

MEASURED = Bfloat16(
    images=200, accuracy=0.9, float32_accuracy=0.905, same_label=0.985, max_difference=0.0123
)


def test_it_is_read_as_it_was_written() -> None:
    assert Bfloat16.from_json(json.loads(json.dumps(asdict(MEASURED)))) == MEASURED


@pytest.mark.parametrize(
    ("accuracy", "good_enough"), [(0.9, True), (0.8, True), (0.792, True), (0.79, False)]
)
def test_a_hundredth_of_float32s_accuracy_may_be_lost(accuracy: float, good_enough: bool) -> None:
    measured = replace(MEASURED, accuracy=accuracy, float32_accuracy=0.8)
    assert measured.good_enough is good_enough


def test_the_line_for_a_log() -> None:
    assert str(MEASURED) == (
        "accuracy 0.9000 on 200 images, 0.9050 in float32; 98.5 % of labels the same, "
        "probabilities within 1.2e-02"
    )

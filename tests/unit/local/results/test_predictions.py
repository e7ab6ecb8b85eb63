import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from local.client.images import ImageFile
from local.errors import UserError
from local.results.predictions import (
    ImagePrediction,
    json_lines,
    print_predictions,
    read_predictions,
    summary,
)

ANT, BEE = ImageFile(Path("ants/1.jpg"), "1.jpg", "ants"), ImageFile(Path("2.jpg"), "2[x].jpg")
BODY = json.dumps(
    {
        "predictions": [
            {
                "label": "ants",
                "probability": 0.75,
                "top": [
                    {"label": "ants", "probability": 0.75},
                    {"label": "bees", "probability": 0.25},
                ],
            }
        ]
    }
).encode()
TOP = (("ants", 0.75), ("bees", 0.25))


def test_labels_and_probabilities_are_read_from_a_body() -> None:
    assert read_predictions(BODY, 1) == [TOP]


def top_of(pair: str) -> bytes:
    return f'{{"predictions": [{{"top": [{pair}]}}]}}'.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"predictions": [{"label": "a"}]}',
        b"\xff",
        b"[" * 100_000,
        top_of('{"label": "a", "probability": NaN}'),
        top_of('{"label": "a", "probability": 1e999}'),
        top_of('{"label": "a", "probability": 1' + "0" * 400 + "}"),
        top_of('{"label": {}, "probability": 0.5}'),
        top_of("3"),
    ],
)
def test_another_response_is_described(body: bytes) -> None:
    with pytest.raises(UserError, match="response: found"):
        read_predictions(body, 1)


def test_too_few_predictions_are_reported() -> None:
    with pytest.raises(UserError, match="found 1 predictions.*expected 2"):
        read_predictions(BODY, 2)


def test_json_lines() -> None:
    lines = [
        json.loads(line)
        for line in json_lines([ImagePrediction(ANT, TOP), ImagePrediction(BEE, error="no")])
    ]
    assert lines[0] == {
        "file": "ants/1.jpg",
        "truth": "ants",
        "label": "ants",
        "probability": 0.75,
        "top": [
            {"label": "ants", "probability": 0.75},
            {"label": "bees", "probability": 0.25},
        ],
    }
    assert lines[1] == {"file": "2.jpg", "error": "no"}


def test_the_table_shows_names_literally() -> None:
    out, notes = io.StringIO(), io.StringIO()
    answers = [
        ImagePrediction(ANT, TOP, resized=10),
        ImagePrediction(BEE, error="HTTP 400: [bold]"),
    ]
    print_predictions(
        answers, as_json=False, out=Console(file=out, width=120), notes=Console(file=notes)
    )
    shown = out.getvalue()
    assert "2[x].jpg" in shown
    assert "HTTP 400: [bold]" in shown
    assert "0.7500" in shown
    assert "bees 0.25" in shown
    assert notes.getvalue().splitlines() == [
        "1 of 2 images have no prediction",
        "1 images were resized",
        "accuracy 1.0000: 1 of 1 match their folders",
    ]


def test_accuracy_counts_only_predicted_images_with_a_class() -> None:
    wrong = ImageFile(Path("bees/1.jpg"), "bees/1.jpg", "bees")
    failed = ImageFile(Path("bees/2.jpg"), "bees/2.jpg", "bees")
    answers = [
        ImagePrediction(ANT, TOP),
        ImagePrediction(wrong, TOP),
        ImagePrediction(failed, error="x"),
        ImagePrediction(BEE, TOP),
    ]
    assert summary(answers)[-1] == "accuracy 0.5000: 1 of 2 match their folders"
    assert summary([ImagePrediction(BEE, TOP)]) == []

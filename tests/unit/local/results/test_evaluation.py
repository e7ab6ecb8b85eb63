import json
from pathlib import Path
from typing import Any

import pytest

from local.errors import UserError
from local.results.evaluation import read_epochs, read_evaluation

ROW = {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 4}
GOOD = {
    "split": "test",
    "images": 8,
    "accuracy": 0.75,
    "top5": 1.0,
    "best_epoch": 2,
    "classes": {"ants": ROW},
}


def written(folder: Path, value: Any) -> Path:
    path = folder / "evaluation.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_an_evaluation_of_berths_image_is_read(tmp_path: Path) -> None:
    evaluation = read_evaluation(written(tmp_path, GOOD | {"confusion": [[4]], "more": None}))
    assert (evaluation.accuracy, evaluation.images, evaluation.split) == (0.75, 8, "test")
    assert evaluation.classes["ants"].support == 4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"accuracy": None}, "accuracy"),
        ({"accuracy": float("nan")}, "accuracy"),
        ({"accuracy": 7}, "accuracy"),
        ({"images": -1}, "images"),
        ({"images": "many"}, "images"),
        ({"split": 3}, "split"),
        ({"classes": []}, "classes"),
        ({"classes": {"ants": {}}}, "classes.ants.precision"),
    ],
)
def test_an_invalid_field_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as error:
        read_evaluation(written(tmp_path, GOOD | change))
    assert f": {field}: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", "[" * 100_000])
def test_json_that_is_not_an_object_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"evaluation\.json"):
        read_evaluation(written(tmp_path, content))


def test_epochs_are_read_and_an_invalid_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1}\n\n{"epoch": 2}\n')
    assert read_epochs(path) == [{"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 1}\n[1]\n')
    with pytest.raises(UserError, match="line 2"):
        read_epochs(path)

import json
import math
from pathlib import Path

import pytest
import torch

from container.training.callbacks import StepMetrics
from container.training.curves import BUFFERED, POINTS, Curves


def facts(step: int, loss: float = 1.0, norm: float | None = 2.0) -> StepMetrics:
    value = None if norm is None else torch.tensor(norm)
    return StepMetrics(step, 1 + step // 100, torch.tensor(loss), 0.1, value)


def lines(path: Path) -> list[dict[str, float | None] | dict[str, float]] | list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_are_evenly_spaced(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "curves.jsonl", steps=3 * POINTS)
    for step in range(10):
        curves.add(facts(step))
    curves.flush()
    curves.flush()
    assert [line["step"] for line in lines(tmp_path / "curves.jsonl")] == [0, 3, 6, 9]
    assert curves.wants(3)
    assert not curves.wants(4)


def test_fields_of_a_line(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "curves.jsonl", steps=5)
    for each in (facts(0, 1.5, 2.5), facts(1, math.nan), facts(2, norm=None), facts(3, math.inf)):
        curves.add(each)
    curves.flush()
    first, undefined, unmeasured, infinite = lines(tmp_path / "curves.jsonl")
    assert first.pop("time") > 0
    assert first == {
        "step": 0,
        "epoch": 1,
        "loss": 1.5,
        "learning_rate": 0.1,
        "gradient_norm": 2.5,
    }
    assert undefined["loss"] is infinite["loss"] is unmeasured["gradient_norm"] is None


def test_lines_are_written_during_training(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "curves.jsonl", steps=2 * BUFFERED)
    for step in range(BUFFERED):
        curves.add(facts(step))
    assert len(lines(tmp_path / "curves.jsonl")) == BUFFERED


@pytest.mark.parametrize("damage", ["", '{"step": 4, "lo', "null\n", "[]\n"])
def test_an_interrupted_run_continues_from_its_checkpoint(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "curves.jsonl"
    curves = Curves(path, steps=10)
    curves.begin(0)
    for step in range(4):
        curves.add(facts(step, loss=1.0))
    curves.flush()
    with path.open("a") as file:
        file.write(damage)
    curves = Curves(path, steps=10)
    curves.begin(2)
    for step in range(2, 5):
        curves.add(facts(step, loss=2.0))
    curves.flush()
    assert [(line["step"], line["loss"]) for line in lines(path)] == [
        (0, 1.0),
        (1, 1.0),
        (2, 2.0),
        (3, 2.0),
        (4, 2.0),
    ]

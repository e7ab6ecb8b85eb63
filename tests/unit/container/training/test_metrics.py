import json
import re
import time
from pathlib import Path

import pytest
import torch

from container.training.metrics import MetricLogger, StepProgress

NAMES = ("train:loss", "train:accuracy", "validation:accuracy", "test:accuracy", "test:top5")
RECORD = {"epoch": 2, "train:loss": 0.123456789, "validation:accuracy": 1e-07}


def test_each_metric_matches_its_regular_expression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {name: 0.5 + place / 100 for place, name in enumerate(NAMES)}
    MetricLogger(tmp_path, active=True).line(values)
    log = capsys.readouterr().out
    for name, value in values.items():
        assert [float(found) for found in re.findall(f"{name}=(.*?);", log)] == [value]


def test_epochs_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MetricLogger(tmp_path, active=True).epoch(RECORD)
    assert capsys.readouterr().out == ("epoch=2; train:loss=0.123457; validation:accuracy=1e-07;\n")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == RECORD


def test_a_resumed_run_starts_with_its_history(tmp_path: Path) -> None:
    kept = MetricLogger(tmp_path, active=True)
    kept.epoch({"epoch": 9})
    kept.restore([{"epoch": 1}])
    kept.epoch({"epoch": 2})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_other_ranks_print_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = MetricLogger(tmp_path, active=False)
    quiet.restore([RECORD])
    quiet.epoch(RECORD)
    quiet.line(RECORD)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_log_gets_occasional_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = iter([0.0, 4.0, 12.0, 13.0, 25.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = StepProgress(lines.append, epoch=1, epochs=3, steps=40, done=10)
    for _ in range(4):
        progress.advance(32, torch.tensor(0.5))
    progress.close()
    assert lines == [
        "epoch 1/3: step 12/40, loss 0.500, 5 images/s",
        "epoch 1/3: step 14/40, loss 0.500, 5 images/s",
    ]


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines: list[str] = []
    progress = StepProgress(lines.append, epoch=2, epochs=3, steps=4, done=0)
    for _ in range(4):
        progress.advance(8, torch.tensor(1.0))
    progress.close()
    assert lines == []
    assert "epoch 2/3" in capsys.readouterr().err

from pathlib import Path

from container.fit.budget import TimeBudget
from container.fit.finetuning import DeadlineCallback, TimedMetrics
from tests.unit.container.fit.test_budget import Clock


def test_training_ends_when_its_time_is_up() -> None:
    clock = Clock()
    deadline = DeadlineCallback(TimeBudget(100, clock=clock), until=60)
    clock.now += 59
    assert deadline.stop_reason() is None
    clock.now += 1
    assert deadline.can_stop
    assert deadline.stop_reason() is not None


def test_every_epoch_is_reported_and_written(tmp_path: Path) -> None:
    told: list[float] = []
    metrics = TimedMetrics(tmp_path / "round", lambda record: told.append(record["epoch"]))
    metrics.epoch({"epoch": 1, "validation:accuracy": 0.5})
    metrics.epoch({"epoch": 2, "validation:accuracy": 0.6})
    assert told == [1, 2]
    assert len((tmp_path / "round" / "metrics.jsonl").read_text().splitlines()) == 2

from datetime import timedelta

import pytest
from rich.console import Console

from local.results.tuning_trials import (
    Trial,
    best_of,
    format_duration,
    line,
    list_trials,
    short,
    table,
    with_current,
)
from tests.unit.local.fake_tuning import METRIC, START, FakeTuning, trial, tuning_job

ENTRIES = [
    trial(1, "Completed", 0.7, learning_rate="0.0123456", batch_size='"64"'),
    trial(2, "Failed", None, learning_rate="0.1", batch_size="32"),
    trial(3, "InProgress", None, learning_rate="0.05", batch_size="32"),
    trial(4, "Completed", 0.9, learning_rate="0.02", batch_size="32"),
]


def test_trials_are_read_page_by_page() -> None:
    found = list_trials(FakeTuning((tuning_job(), ENTRIES)), "search")
    assert [each.name for each in found] == [f"search-00{n}" for n in (1, 2, 3, 4)]
    first = found[0]
    assert first == Trial(
        "search-001",
        "Completed",
        {"learning_rate": "0.0123456", "batch_size": "64"},
        0.7,
        65.0,
        "",
    )
    assert found[1].failure == "AlgorithmError: <b>no luck</b> at all"


def test_the_time_of_a_running_trial_increases() -> None:
    assert Trial.read(ENTRIES[2], START + timedelta(seconds=9)).seconds == 9
    waiting = dict(ENTRIES[2])
    del waiting["TrainingStartTime"]
    assert Trial.read(waiting).seconds is None


def test_the_objective_of_a_running_trial_is_its_latest_value() -> None:
    story = FakeTuning((tuning_job(), ENTRIES))
    found = list_trials(story, "search")
    assert with_current(story, found, METRIC) == found
    story.current["search-003"] = 0.55
    values = [each.objective for each in with_current(story, found, METRIC)]
    assert values == [0.7, None, 0.55, 0.9]


def test_the_best_trial() -> None:
    found = [Trial.read(entry) for entry in ENTRIES]
    best = best_of(found, maximize=True)
    worst = best_of(found, maximize=False)
    assert best is not None
    assert worst is not None
    assert (best.name, worst.name) == ("search-004", "search-001")
    assert best_of([found[1]], maximize=True) is None


def test_the_table() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table([Trial.read(e) for e in ENTRIES], "[x]accuracy", maximize=True))
    lines = captured.get().splitlines()
    assert lines[0].split() == [
        "trial", "status", "learning_rate", "batch_size", "[x]accuracy", "time",
    ]  # fmt: skip
    assert lines[1].split() == ["search-001", "Completed", "0.01235", "64", "0.7000", "1", "min", "5", "s"]  # noqa: E501  # fmt: skip
    assert lines[2].split()[:5] == ["search-002", "Failed", "0.1", "32", "–"]


def test_a_trial_is_one_line() -> None:
    done = line(Trial.read(ENTRIES[0]))
    assert done == (
        "search-001  Completed  learning_rate=0.01235 batch_size=64  objective 0.7000  1 min 5 s"
    )
    assert line(Trial.read(ENTRIES[1])).endswith("AlgorithmError: <b>no luck</b> at all")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.0123456", "0.01235"), ("128", "128"), ("100000", "100000"), ("sgd", "sgd"), ("", "")],
)
def test_short_values(value: str, expected: str) -> None:
    assert short(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "–"), (3.9, "3 s"), (125, "2 min 5 s"), (4200, "1 h 10 min")],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert format_duration(seconds) == expected

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container.monitoring.profiler.rules.steps import ENOUGH, _counts
from tests.unit.container.monitoring.profiler.folders import START, Host, constant
from tests.unit.container.monitoring.profiler.rules.asking import berth_outcome, outcome


def steps_with(slow: Any, count: int = 400, usual: float = 0.1, long: float = 1.0) -> Any:
    durations = np.full(count, usual)
    durations[np.linspace(50, count - 10, slow).astype(int)] = long
    return Host(steps=durations, cpu=constant(20, 50))


def test_many_slow_steps_fire(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", steps_with(12))
    assert found.fired
    assert found.violations == 12
    assert found.datapoints == 400
    entry = found.details["step_details"]["algo-1-7"]
    assert entry["number_of_outliers"] == 12
    assert entry["phase"] == "Step:ModeKeys.TRAIN"
    assert entry["step_stats"]["max"] == pytest.approx(1)
    assert entry["step_numbers"][0] == 50
    assert len(entry["probs"]) == 100
    assert len(entry["binedges"]) == 101
    assert sum(entry["probs"]) == 388
    assert found.steps[0] == 50
    assert found.moments[0] == pytest.approx(START + 1 + 50 * 0.1, abs=1e-5)
    assert "12 train steps of algo-1-7 took longer" in found.reason


@pytest.mark.parametrize(("slow", "fires"), [(10, False), (11, True)])
def test_the_expected_number_of_slow_steps_does_not_fire(
    tmp_path: Path, slow: int, fires: bool
) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", steps_with(slow))
    assert found.fired is fires
    assert found.details["step_details"]["algo-1-7"]["number_of_outliers"] == slow


def test_its_parameters_are_used(tmp_path: Path) -> None:
    assert berth_outcome(tmp_path / "a", "StepOutlier", steps_with(3), n_outliers=2).fired
    assert not berth_outcome(tmp_path / "b", "StepOutlier", steps_with(12), stddev=9).fired


def test_equal_durations_are_not_outliers(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", steps_with(0))
    assert found.details["step_details"]["algo-1-7"]["number_of_outliers"] == 0
    assert not found.fired


def test_too_few_steps(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", steps_with(20, count=99))
    assert found.reason == "not enough data: 99 of 100 steps"
    assert not found.judged
    assert berth_outcome(tmp_path / "x", "StepOutlier", Host(cpu=constant(9, 1))).reason == (
        "no steps in this job's timeline"
    )


def both_modes() -> Any:
    host = steps_with(0)
    evaluation = np.full(300, 0.05)
    evaluation[np.arange(20) * 15] = 2.0
    host.eval_steps = evaluation
    return host


@pytest.mark.parametrize(
    ("mode", "fires"),
    [(None, True), ("EVAL", True), ("ModeKeys.EVAL", True), ("Step:ModeKeys.TRAIN", False)],
)
def test_modes_are_separate(tmp_path: Path, mode: str | None, fires: bool) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", both_modes(), mode=mode)
    assert found.fired is fires


def test_evaluation_has_a_separate_entry(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", both_modes())
    assert set(found.details["step_details"]) == {"algo-1-7", "algo-1-7 (eval)"}
    assert found.details["step_details"]["algo-1-7 (eval)"]["phase"] == "Step:ModeKeys.EVAL"


def test_a_mode_without_steps(tmp_path: Path) -> None:
    found = berth_outcome(tmp_path, "StepOutlier", steps_with(20), mode="PREDICT")
    assert found.reason == "no steps of mode 'PREDICT'"


def test_sagemakers_own_timeline_works_as_well(tmp_path: Path) -> None:
    assert outcome(tmp_path, "StepOutlier", steps_with(12)).violations == 12


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 10), min_size=ENOUGH, max_size=200), st.floats(0.5, 4))
def test_each_look_counts_only_the_steps_before_it(durations: Any, stddev: Any) -> None:
    values = np.array(durations)
    looks = np.array([50, ENOUGH, len(values)])
    counts = _counts(values, looks, stddev)
    assert counts[0] == 0  # too few
    for look, count in zip(looks[1:], counts[1:], strict=True):
        seen = values[:look]
        limit = seen.mean() + stddev * seen.std()
        assert (seen > limit + 1e-5).sum() <= count <= (seen > limit - 1e-5).sum()


def test_a_late_first_step_fires(tmp_path: Path) -> None:
    late = Host(cpu=constant(30, 50), interval=60, steps=[0.1] * 20, before=25 * 60)
    found = outcome(tmp_path, "MaxInitializationTime", late)
    assert found.fired
    assert found.moments == (START + 20 * 60,)
    assert found.details["initialization_in_seconds"] == pytest.approx(25 * 60, abs=0.1)
    assert found.details["job_start"] == START
    assert found.details["step_num"]["first"] == pytest.approx((START + 1500) * 1e6, rel=1e-9)
    assert "began 25.0 min after the job" in found.reason


def test_an_early_first_step_does_not_fire(tmp_path: Path) -> None:
    found = outcome(
        tmp_path, "MaxInitializationTime", Host(cpu=constant(30, 50), steps=[0.1] * 20, before=19)
    )
    assert not found.fired
    assert found.judged
    assert found.datapoints == 20


def test_a_missing_first_step_fires(tmp_path: Path) -> None:
    found = outcome(tmp_path, "MaxInitializationTime", Host(cpu=constant(30, 50), interval=60))
    assert found.fired
    assert found.reason == (
        "no training step in the 29.0 min recorded, which have no timeline (limit 20 min)"
    )


def test_without_a_timeline_job_json_has_the_start_of_training(tmp_path: Path) -> None:
    host = Host(cpu=constant(30, 50), interval=60)
    found = berth_outcome(
        tmp_path, "MaxInitializationTime", host, job={"training_started": START + 90}
    )
    assert found.judged
    assert not found.fired
    assert found.details["initialization_in_seconds"] == 90


def test_a_recording_too_short_to_judge(tmp_path: Path) -> None:
    found = outcome(tmp_path, "MaxInitializationTime", Host(cpu=constant(30, 50)))
    assert not found.fired
    assert not found.judged
    assert found.reason.startswith("no training step in the 14.5 s recorded")


def test_job_json_has_the_start_of_the_job(tmp_path: Path) -> None:
    host = Host(cpu=constant(30, 50), steps=[0.1] * 20)
    found = berth_outcome(
        tmp_path, "MaxInitializationTime", host, job={"started": START - 3600}, threshold=30
    )
    assert found.fired
    assert found.details["initialization_in_seconds"] == pytest.approx(3601)


def test_a_first_step_at_the_limit_does_not_fire(tmp_path: Path) -> None:
    host = Host(cpu=constant(30, 50), steps=[0.1] * 20, before=60.0)
    assert not berth_outcome(tmp_path, "MaxInitializationTime", host, threshold=1).fired

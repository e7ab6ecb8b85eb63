"""Tuning jobs across servers: shut down, killed, recovered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.emulator.store import Kind, Record
from tests.unit.local.emulator.tuning_harness import FakeRun, TuningHarness, tuning_request


def learns(hyperparameters: dict[str, str]) -> FakeRun:
    """Report once: a job that Hyperband stops at MaxResource has the result of one that ended."""
    return FakeRun([float(hyperparameters["rate"])])


def whole(path: Path, **changes: Any) -> list[dict[str, str]]:
    """Return the trials of an uninterrupted job."""
    path.mkdir()
    here = TuningHarness.build(path, learns)
    here.tuning.create(tuning_request(**changes))
    here.ended()
    tuned = here.tuned()
    here.close()
    return tuned


def interrupted(path: Path, finished: int, **changes: Any) -> None:
    """End a server after `finished` trials, with the next ones running."""
    path.mkdir()
    here = TuningHarness.build(path, learns)
    parallel = changes.get("parallel", 1)

    def script(hyperparameters: dict[str, str]) -> FakeRun:
        if len(here.training.requests) > finished:
            here.training.gate.clear()
        return learns(hyperparameters)

    here.training.script = script
    here.tuning.create(tuning_request(**changes))
    here.wait(lambda: len(here.trials()) == finished + parallel)
    here.wait(lambda: all("tuning" in each.private for each in here.trials()))
    here.close()


def revived(path: Path) -> TuningHarness:
    here = TuningHarness.build(path, learns)
    here.training.recover()
    here.tuning.recover()
    return here


def recovered_and_stopped(here: TuningHarness) -> dict[str, Any]:
    """Return how the job ends when a recovered server stops its only running trial."""
    here.training.gate.clear()
    here.training.recover()
    here.tuning.recover()
    here.wait(lambda: len(here.training.stopped) == 1)
    here.training.gate.set()
    return here.ended()


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_an_interrupted_job_ends_with_the_trials_of_an_uninterrupted_one(
    tmp_path: Path, strategy: str
) -> None:
    settings: dict[str, Any] = {"strategy": strategy, "jobs": 7}
    if strategy == "Hyperband":
        bands = {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 1}}
        settings["config"] = {"StrategyConfig": bands}
    expected = whole(tmp_path / "whole", **settings)
    interrupted(tmp_path / "cut", 4, **settings)
    here = revived(tmp_path / "cut")
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert here.tuned() == expected
    assert len({each.name for each in here.trials()}) == 7
    here.close()


def test_recovery_keeps_to_the_parallel_limit(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"jobs": 8, "parallel": 2}
    expected = whole(tmp_path / "whole", **settings)
    interrupted(tmp_path / "cut", 0, **settings)
    here = revived(tmp_path / "cut")
    assert here.ended()["TrainingJobStatusCounters"]["Completed"] == 8
    assert here.training.peak <= 2
    assert here.tuned() == expected
    here.close()


def test_shutdown_does_not_stop_jobs(tmp_path: Path) -> None:
    interrupted(tmp_path / "cut", 1, jobs=3)
    here = TuningHarness.build(tmp_path / "cut", learns)
    assert here.job()["HyperParameterTuningJobStatus"] == "InProgress"
    statuses = [each.body["TrainingJobStatus"] for each in here.trials()]
    assert statuses == ["Completed", "InProgress"]
    here.close()


def test_a_planned_trial_without_a_training_job_is_created(tmp_path: Path) -> None:
    """The server was killed in between; name and hyperparameters stay the same."""
    expected = whole(tmp_path / "whole", jobs=4)
    interrupted(tmp_path / "cut", 2, jobs=4)
    here = TuningHarness.build(tmp_path / "cut", learns)
    lost = here.trials()[-1]
    here.context.store.delete(Kind.TRAINING_JOB, lost.name)
    here.training.recover()
    here.tuning.recover()
    here.ended()
    assert here.tuned() == expected
    assert here.trials()[2].name == lost.name
    here.close()


def test_a_trial_lost_with_the_old_server_is_repeated(tmp_path: Path) -> None:
    """Its training job could not resume; another one repeats its values, beyond the limit."""
    expected = whole(tmp_path / "whole", jobs=4)
    interrupted(tmp_path / "cut", 2, jobs=4)
    here = TuningHarness.build(tmp_path / "cut", learns)
    here.training.script = lambda _: FakeRun(
        [], "Failed", "InternalServerError: its folder is gone"
    )
    here.training.gate.clear()
    here.training.recover()
    here.training.script = learns
    here.tuning.recover()
    here.training.gate.set()
    body = here.ended()
    counters = body["TrainingJobStatusCounters"]
    assert (counters["Completed"], counters["RetryableError"]) == (4, 1)
    tuned = here.tuned()
    assert tuned[2] == tuned[3]
    assert tuned[:3] + tuned[4:] == expected
    assert [each.name[:7] for each in here.trials()] == [f"job-{n:03d}" for n in range(1, 6)]
    here.close()


def change_private(here: TuningHarness, change: Callable[[dict[str, Any]], None]) -> None:
    def apply(record: Record) -> None:
        change(record.private)

    here.context.store.update(Kind.TUNING_JOB, "job", apply)


def test_a_stop_survives_a_restart(tmp_path: Path) -> None:
    interrupted(tmp_path / "cut", 1, jobs=5)
    here = TuningHarness.build(tmp_path / "cut", learns)
    here.tuning.stop("job")
    body = recovered_and_stopped(here)
    assert body["HyperParameterTuningJobStatus"] == "Stopped"
    assert body["TrainingJobStatusCounters"]["Stopped"] == 1
    assert len(here.trials()) == 2
    here.close()


def test_the_time_limit_includes_time_before_restarts(tmp_path: Path) -> None:
    interrupted(tmp_path / "cut", 1, jobs=5, limits={"MaxRuntimeInSeconds": 120})
    here = TuningHarness.build(tmp_path / "cut", learns)
    change_private(here, lambda private: private.update(seconds=119.9))
    body = recovered_and_stopped(here)
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert body["ConsumedResources"]["RuntimeInSeconds"] >= 120
    assert body["TrainingJobStatusCounters"]["Stopped"] == 1
    here.close()


def test_a_time_limit_before_any_objective_is_a_failure(tmp_path: Path) -> None:
    interrupted(tmp_path / "cut", 0, jobs=5, limits={"MaxRuntimeInSeconds": 120})
    here = TuningHarness.build(tmp_path / "cut", lambda _: FakeRun([]))
    change_private(here, lambda private: private.update(seconds=120.0))
    body = recovered_and_stopped(here)
    assert body["HyperParameterTuningJobStatus"] == "Failed"
    assert "MaxRuntimeInSeconds (120)" in body["FailureReason"]
    here.close()


def test_an_internal_error_ends_the_job_and_stops_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = TuningHarness.build(tmp_path, learns)
    here.training.gate.clear()
    here.tuning.create(tuning_request(jobs=5))
    here.wait(lambda: len(here.trials()) == 1)
    monkeypatch.setattr("local.emulator.tuning.progress.verdict", lambda *_: 1 / 0)
    here.wait(lambda: len(here.training.stopped) == 1)
    here.training.gate.set()
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Failed"
    assert "ZeroDivisionError" in body["FailureReason"]
    assert body["TrainingJobStatusCounters"]["InProgress"] == 0
    assert body["TrainingJobStatusCounters"]["Stopped"] == 1
    here.close()

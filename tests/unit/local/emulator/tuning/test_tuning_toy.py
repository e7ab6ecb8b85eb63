"""Tuning jobs over real training jobs: the toy container in plain processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulator.executors import Executor
from local.emulator.store import Kind
from local.emulator.tuning.jobs import TuningJobs
from local.statuses import TERMINAL
from tests.unit.local.emulator.training_harness import TrainingHarness, build
from tests.unit.local.emulator.tuning_harness import METRIC, tuning_request

pytestmark = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)

RANGES = {
    "ContinuousParameterRanges": [
        {"Name": "learning_rate", "MinValue": "0.0001", "MaxValue": "1", "ScalingType": "Auto"}
    ]
}


@pytest.fixture
def harness(toy_executor: Executor, tmp_path: Path) -> Iterator[TrainingHarness]:
    harness = build(tmp_path, toy_executor, max_parallel=3)
    yield harness
    harness.close()


@pytest.fixture
def tuning(harness: TrainingHarness) -> Iterator[TuningJobs]:
    jobs = TuningJobs(harness.context, harness.jobs, poll=0.05)
    yield jobs
    jobs.shutdown()


def tune(tuning: TuningJobs, *, static: dict[str, str], **changes: Any) -> None:
    tuning.create(
        tuning_request(
            ranges=RANGES,
            definition={
                "StaticHyperParameters": static,
                "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
                "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints"},
            },
            **changes,
        )
    )


def ended(harness: TrainingHarness) -> dict[str, Any]:
    store = harness.context.store

    def body() -> dict[str, Any]:
        return store.get(Kind.TUNING_JOB, "job").body

    with store.changed:
        assert store.changed.wait_for(
            lambda: body()["HyperParameterTuningJobStatus"] in TERMINAL, 60
        )
    return body()


def trials(harness: TrainingHarness) -> list[dict[str, Any]]:
    records = harness.context.store.every(Kind.TRAINING_JOB)
    return [each.body for each in sorted(records, key=lambda each: each.name)]


def test_trials_are_training_jobs(harness: TrainingHarness, tuning: TuningJobs) -> None:
    tune(tuning, static={"epochs": "2", "seconds": "0.02"}, strategy="Bayesian", jobs=5, parallel=2)
    body = ended(harness)
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert body["TrainingJobStatusCounters"]["Completed"] == 5
    finals = {each["TrainingJobName"]: each["FinalMetricDataList"] for each in trials(harness)}
    best = body["BestTrainingJob"]
    value = best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert value == max(final[0]["Value"] for final in finals.values())
    assert finals[best["TrainingJobName"]][0]["Value"] == value
    for each in trials(harness):
        assert each["HyperParameters"]["_tuning_objective_metric"] == METRIC
        checkpoint = f"checkpoints/{each['TrainingJobName']}/epoch.txt"
        assert harness.objects.names(checkpoint) == [checkpoint]
        archive = f"out/{each['TrainingJobName']}/output/model.tar.gz"
        assert harness.objects.names(archive) == [archive]


def test_a_trial_stopped_by_its_bracket_gets_sigterm(
    harness: TrainingHarness, tuning: TuningJobs
) -> None:
    tune(
        tuning,
        static={"epochs": "500", "seconds": "0.05"},
        strategy="Hyperband",
        jobs=3,
        config={
            "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}}
        },
    )
    body = ended(harness)
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert body["TrainingJobStatusCounters"]["Stopped"] == 3
    assert body["ObjectiveStatusCounters"]["Succeeded"] == 3
    assert harness.logs.lines().count("toy: SIGTERM") == 3


def test_the_log_of_a_container_without_the_metric_is_quoted(
    harness: TrainingHarness, tuning: TuningJobs
) -> None:
    tune(tuning, static={"epochs": "1", "seconds": "0.01", "silent": "1"}, jobs=2, parallel=2)
    reason = ended(harness)["FailureReason"]
    assert METRIC in reason
    assert "toy: epoch 1" in reason
    assert "toy: done" in reason


def test_a_tuning_job_continues_after_its_server_ended(
    harness: TrainingHarness, tuning: TuningJobs
) -> None:
    tune(tuning, static={"epochs": "6", "seconds": "0.1"}, jobs=4, parallel=2)
    store = harness.context.store
    harness.logs.wait_for("toy: epoch 2")
    tuning.shutdown()
    harness.jobs.shutdown()
    running = {each["TrainingJobName"] for each in trials(harness)}
    assert store.get(Kind.TUNING_JOB, "job").body["HyperParameterTuningJobStatus"] == "InProgress"
    assert {each["TrainingJobStatus"] for each in trials(harness)} == {"InProgress"}

    again = harness.restart()
    resumed = TuningJobs(again.context, again.jobs, poll=0.05)
    resumed.recover()
    body = ended(again)
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert body["TrainingJobStatusCounters"]["Completed"] == 4
    assert len(running) == 2
    assert running < {each["TrainingJobName"] for each in trials(again)}
    assert any("toy: resuming after epoch" in line for line in harness.logs.lines())
    resumed.shutdown()
    again.close()

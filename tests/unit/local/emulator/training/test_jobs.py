"""Training jobs with the toy container in plain processes, from the request to the output in S3."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.emulator.api.operations import OPERATIONS
from local.emulator.errors import ServiceError
from local.emulator.executors import Executor
from local.emulator.store import Exists, Kind
from tests.training_requests import channel
from tests.unit.local.emulator.fakes import BUCKET
from tests.unit.local.emulator.training_harness import TrainingHarness, build, request

pytestmark = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


def names_in(harness: TrainingHarness, key: str) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(harness.objects.read(BUCKET, key))) as tar:
        return tar.getnames()


def training(body: dict[str, object]) -> bool:
    return body["SecondaryStatus"] == "Training"


def test_a_job_runs_and_uploads_its_archives(harness: TrainingHarness) -> None:
    body = harness.run()
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Completed"
    assert harness.statuses() == [
        "Starting",
        "Pending",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert body["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model.tar.gz"}
    assert names_in(harness, "out/job/output/model.tar.gz") == ["model.json"]
    assert names_in(harness, "out/job/output/output.tar.gz") == ["data/result.txt"]
    assert [(one["MetricName"], one["Value"]) for one in body["FinalMetricDataList"]] == [
        ("score", 0.833333)
    ]
    assert "FailureReason" not in body
    assert harness.logs.lines()[0] == "toy: job job on algo-1"


def test_rule_statuses_of_a_container_are_shown_at_once_and_kept(harness: TrainingHarness) -> None:
    said = {
        "RuleConfigurationName": "Overfit",
        "RuleEvaluationStatus": "IssuesFound",
        "StatusDetails": "fired at step 4",
    }
    values = {"statuses": json.dumps([said]), "report": "<html>", "seconds": "0.5"}
    harness.jobs.create(
        request(hyperparameters=values, ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/p"})
    )

    def shown(_body: object) -> list[str]:
        describe = OPERATIONS["DescribeTrainingJob"]
        answer = describe(harness.services(), {"TrainingJobName": "job"}) or {}
        rules = answer.get("DebugRuleEvaluationStatuses", [])
        return [f"{one['RuleEvaluationStatus']}: {one['StatusDetails']}" for one in rules]

    body = harness.wait(until=lambda body: bool(shown(body)))
    assert training(body)
    assert "DebugRuleEvaluationStatuses" not in body
    body = harness.wait()
    assert shown(body) == ["IssuesFound: fired at step 4"]
    assert (
        harness.objects.read(
            BUCKET, "p/job/rule-output/ProfilerReport/profiler-output/profiler-report.html"
        )
        == b"<html>"
    )
    assert "data/rules/debug.json" in names_in(harness, "out/job/output/output.tar.gz")


def test_every_transition_has_times_and_a_message(harness: TrainingHarness) -> None:
    body = harness.run()
    visits = body["SecondaryStatusTransitions"]
    assert all(visit["StatusMessage"] for visit in visits)
    assert all(visit["StartTime"] <= visit["EndTime"] for visit in visits)
    ends = [visit["EndTime"] for visit in visits[:-1]]
    assert ends == [visit["StartTime"] for visit in visits[1:]]
    assert body["CreationTime"] <= body["TrainingStartTime"] < body["TrainingEndTime"]
    assert body["TrainingTimeInSeconds"] == body["BillableTimeInSeconds"] >= 1


def test_the_description_repeats_the_request(harness: TrainingHarness) -> None:
    further: dict[str, Any] = {
        "CheckpointConfig": {"S3Uri": "s3://bucket/c"},
        "DebugHookConfig": {"S3OutputPath": "s3://bucket/d"},
        "ProfilerConfig": {"S3OutputPath": "s3://bucket/p"},
        "TensorBoardOutputConfig": {"S3OutputPath": "s3://bucket/t"},
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
        "Environment": {"A": "b"},
    }
    body = harness.jobs.create(request(**further), tuning_job_arn="arn:tuning").body
    for field, value in (request() | further).items():
        assert body[field] == value
    assert body["ProfilingStatus"] == "Enabled"
    assert body["TuningJobArn"] == "arn:tuning"
    assert body["SecondaryStatus"] == "Starting"
    assert harness.wait()["TrainingJobStatus"] == "Completed"


def test_a_request_without_a_time_limit_has_a_day(harness: TrainingHarness) -> None:
    body = harness.run(StoppingCondition=None)
    assert body["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}


def test_inputs_are_provided_and_removed_after_the_end(harness: TrainingHarness) -> None:
    harness.objects.add("data/cat/1.png", "abc")
    harness.run(InputDataConfig=[channel("train", "s3://bucket/data")])
    assert "toy: input train/cat/1.png 3 bytes" in harness.logs.lines()
    folder = harness.context.home.job("training-job", "job")
    left = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert left == [
        "algo-1/input/config/hyperparameters.json",
        "algo-1/input/config/inputdataconfig.json",
        "algo-1/input/config/resourceconfig.json",
        "metrics.jsonl",
    ]
    assert harness.objects.read(BUCKET, "data/cat/1.png") == b"abc"


def test_missing_data_fails_the_job_before_it_trains(harness: TrainingHarness) -> None:
    body = harness.run(InputDataConfig=[channel("train", "s3://bucket/gone")])
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"] == (
        "ClientError: Data download failed: channel train: "
        "no S3 objects found under s3://bucket/gone"
    )
    assert harness.statuses()[-2:] == ["Downloading", "Failed"]


def test_metrics_are_available_during_and_after_the_job(harness: TrainingHarness) -> None:
    harness.jobs.create(request(hyperparameters={"epochs": "1000", "seconds": "0.02"}))
    harness.wait_for_metrics(2)
    assert harness.body()["SecondaryStatus"] == "Training"
    seen = harness.jobs.metrics("job")
    assert [(metric.name, metric.value) for metric in seen[:2]] == [
        ("score", 0.75),
        ("score", 0.833333),
    ]
    harness.jobs.stop("job")
    harness.wait()
    assert harness.jobs.metrics("job")[:2] == seen[:2]
    assert harness.logs.points[:2] == [("score", 0.75), ("score", 0.833333)]
    assert harness.jobs.metrics("nobody") == []


def test_a_job_without_its_metric_completes_and_its_lines_can_be_read(
    harness: TrainingHarness,
) -> None:
    body = harness.run(HyperParameters={"epochs": "1", "seconds": "0", "silent": "1"})
    assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    assert "FinalMetricDataList" not in body
    *lines, note = harness.jobs.last_lines("job", 3)
    assert lines == ["toy: epoch 1", "toy: done"]
    assert "score" in note  # the metric that never matched


def test_a_failed_job_has_a_reason_and_outputs(harness: TrainingHarness) -> None:
    body = harness.run(HyperParameters={"fail": "no such class: cat"})
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Failed"
    assert body["FailureReason"] == "AlgorithmError: no such class: cat, exit code: 1"
    assert body["SecondaryStatusTransitions"][-1]["StatusMessage"] == body["FailureReason"]
    assert names_in(harness, "out/job/output/output.tar.gz") == ["failure"]
    assert "out/job/output/model.tar.gz" not in harness.objects.names()


def test_a_long_failure_reason_is_truncated_and_keeps_the_exit_code(
    harness: TrainingHarness,
) -> None:
    reason = harness.run(HyperParameters={"fail": "x" * 5000})["FailureReason"]
    assert len(reason) == 1024
    assert reason.endswith("x, exit code: 1")


def test_a_failure_without_a_message_shows_the_last_line(harness: TrainingHarness) -> None:
    reason = harness.run(HyperParameters={"epochs": "many"})["FailureReason"]
    assert reason.startswith("AlgorithmError: no output/failure was written; the log ends with: ")
    assert reason.endswith(", exit code: 1")


def test_a_stopped_job_keeps_its_outputs(harness: TrainingHarness) -> None:
    harness.jobs.create(
        request(
            hyperparameters={"epochs": "1000", "seconds": "0.02"},
            CheckpointConfig={"S3Uri": "s3://bucket/saved"},
        )
    )
    harness.wait_for_metrics(1)
    harness.jobs.stop("job")
    assert harness.body()["TrainingJobStatus"] == "Stopping"
    body = harness.wait()
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Stopped"
    assert harness.statuses()[-4:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert "saved/epoch.txt" in harness.objects.names("saved")
    assert "toy: SIGTERM" in harness.logs.lines()


def test_an_ended_or_missing_job_cannot_be_stopped(harness: TrainingHarness) -> None:
    harness.run()
    with pytest.raises(ServiceError, match="is in status Completed") as caught:
        harness.jobs.stop("job")
    assert caught.value.code == "ValidationException"
    with pytest.raises(ServiceError) as caught:
        harness.jobs.stop("nobody")
    assert caught.value.code == "ResourceNotFound"


def test_a_job_above_its_time_limit_is_stopped(harness: TrainingHarness) -> None:
    body = harness.run(
        HyperParameters={"epochs": "1000", "seconds": "0.05"},
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )
    assert body["TrainingJobStatus"] == "Stopped"
    assert body["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert "toy: SIGTERM" in harness.logs.lines()


def test_a_job_that_ignores_sigterm_is_killed(toy_executor: Executor, tmp_path: Path) -> None:
    from local.emulator.training.run import TrainingTiming

    harness = build(tmp_path, toy_executor, timing=TrainingTiming(grace=0.2))
    harness.jobs.create(
        request(hyperparameters={"epochs": "1000", "seconds": "0.05", "ignore_sigterm": "1"})
    )
    harness.wait_for_metrics(1)
    harness.jobs.stop("job")
    assert harness.wait()["TrainingJobStatus"] == "Stopped"
    harness.context.store.close()


def test_checkpoints_in_s3_are_resumed_from(harness: TrainingHarness) -> None:
    harness.objects.add("saved/epoch.txt", "1")
    harness.run(CheckpointConfig={"S3Uri": "s3://bucket/saved"})
    assert "toy: resuming after epoch 1" in harness.logs.lines()
    assert harness.objects.read(BUCKET, "saved/epoch.txt") == b"2"


def test_an_uncompressed_model_is_uploaded_file_by_file(harness: TrainingHarness) -> None:
    output = {"S3OutputPath": "s3://bucket/out", "CompressionType": "NONE"}
    body = harness.run(OutputDataConfig=output)
    assert body["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model/"}
    assert "out/job/output/model/model.json" in harness.objects.names()


def test_a_spot_rehearsal_resumes_and_reports_the_lost_work(harness: TrainingHarness) -> None:
    harness.jobs.create(
        request(
            hyperparameters={"epochs": "12", "seconds": "0.1"},
            EnableManagedSpotTraining=True,
            StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
            CheckpointConfig={"S3Uri": "s3://bucket/saved"},
            Tags=[{"Key": "berth:interrupt-after", "Value": "0.6"}],
        )
    )
    body = harness.wait()
    assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    assert [s for s in harness.statuses() if s in {"Training", "Interrupted"}] == [
        "Training",
        "Interrupted",
        "Training",
    ]
    (interruption,) = harness.record().private["interruptions"]
    assert interruption["cause"] == "spot"
    assert interruption["seconds_trained"] >= 0.6
    assert 0 <= interruption["seconds_lost"] < interruption["seconds_trained"]
    said = next(
        visit["StatusMessage"]
        for visit in body["SecondaryStatusTransitions"]
        if visit["Status"] == "Interrupted"
    )
    assert said.startswith("The managed spot instance was interrupted after 0.")
    assert said.endswith(f"{interruption['seconds_lost']:.1f} s of work lost")
    assert any(line.startswith("toy: resuming after epoch") for line in harness.logs.lines())
    assert harness.objects.read(BUCKET, "saved/epoch.txt") == b"12"
    assert len(harness.jobs.metrics("job")) in {12, 13}  # one epoch may be measured but not saved


def test_a_spot_job_without_checkpoints_in_s3_starts_over(harness: TrainingHarness) -> None:
    harness.jobs.create(
        request(
            hyperparameters={"epochs": "5", "seconds": "0.1"},
            EnableManagedSpotTraining=True,
            Tags=[{"Key": "berth:interrupt-after", "Value": "0.35"}],
        )
    )
    assert harness.wait()["TrainingJobStatus"] == "Completed"
    assert not any(line.startswith("toy: resuming") for line in harness.logs.lines())
    (interruption,) = harness.record().private["interruptions"]
    assert interruption["seconds_lost"] == pytest.approx(interruption["seconds_trained"], abs=0.01)


def test_a_rehearsal_may_be_requested_while_the_job_runs(harness: TrainingHarness) -> None:
    harness.jobs.create(
        request(
            hyperparameters={"epochs": "12", "seconds": "0.1"},
            EnableManagedSpotTraining=True,
            CheckpointConfig={"S3Uri": "s3://bucket/saved"},
        )
    )
    harness.wait_for_metrics(2)
    harness.context.store.tag(harness.record().arn, {"berth:interrupt-after": "0.01"})
    harness.jobs.retag("job")
    assert harness.wait()["TrainingJobStatus"] == "Completed"
    assert harness.statuses().count("Interrupted") == 1
    (resumed,) = [each for each in harness.logs.lines() if each.startswith("toy: resuming")]
    assert 1 <= int(resumed.rpartition(" ")[2]) < 12


def test_a_tag_alone_interrupts_nothing(harness: TrainingHarness) -> None:
    harness.run(Tags=[{"Key": "berth:interrupt-after", "Value": "0"}])
    assert "Interrupted" not in harness.statuses()
    assert harness.context.store.tags(harness.record().arn) == {"berth:interrupt-after": "0"}


def test_a_server_restart_does_not_affect_a_job(harness: TrainingHarness) -> None:
    harness.jobs.create(request(hyperparameters={"epochs": "12", "seconds": "0.05"}))
    harness.wait_for_metrics(3)
    harness.jobs.shutdown()
    assert harness.body()["SecondaryStatus"] == "Interrupted"
    assert harness.body()["TrainingJobStatus"] == "InProgress"
    with pytest.raises(ServiceError, match="is stopping"):
        harness.jobs.create(request("late"))
    again = harness.restart()
    body = again.wait()
    assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    assert [metric.value for metric in again.jobs.metrics("job")][-1] == pytest.approx(0.961538)
    assert len(again.jobs.metrics("job")) in {12, 13}  # one epoch may be measured but not saved
    message = next(
        visit["StatusMessage"]
        for visit in body["SecondaryStatusTransitions"]
        if visit["Status"] == "Interrupted"
    )
    assert message.startswith("The local SageMaker was stopped after ")
    again.context.store.close()


def test_later_jobs_find_the_warm_pool_cache_of_earlier_ones(
    harness: TrainingHarness,
) -> None:
    harness.run(TrainingJobName="one", HyperParameters={"epochs": "1", "keep": "first"})
    assert names_in(harness, "out/one/output/model.tar.gz") == ["model.json"]
    assert names_in(harness, "out/one/output/output.tar.gz") == ["data/result.txt"]
    harness.jobs.shutdown()
    later = harness.restart()
    later.run(TrainingJobName="two", HyperParameters={"epochs": "1", "keep": "second"})
    assert [line for line in later.logs.lines() if "kept" in line] == [
        "toy: kept []",
        "toy: kept ['first']",
    ]
    home = later.context.home
    later.context.store.close()
    assert sorted(path.name for path in home.warm_pool_cache.iterdir()) == ["first", "second"]
    assert not list(home.path.glob("jobs/*/*/*/sagemaker"))


def test_names_are_unique(harness: TrainingHarness) -> None:
    harness.run()
    with pytest.raises(Exists):
        harness.jobs.create(request())


def test_an_image_that_cannot_run_here_is_refused_at_once(harness: TrainingHarness) -> None:
    algorithm = {**request()["AlgorithmSpecification"], "TrainingImage": "other:1"}
    with pytest.raises(ServiceError, match=r"TrainingImage: .* found other:1") as caught:
        harness.jobs.create(request(AlgorithmSpecification=algorithm))
    assert caught.value.code == "ValidationException"
    assert harness.context.store.every(Kind.TRAINING_JOB) == []


def test_jobs_above_the_limit_wait_and_a_waiting_one_can_be_stopped(
    toy_executor: Executor, tmp_path: Path
) -> None:
    harness = build(tmp_path, toy_executor, max_parallel=1)
    harness.jobs.create(request("one", {"epochs": "1000", "seconds": "0.02"}))
    harness.wait("one", until=training)
    for name in ("two", "three"):
        harness.jobs.create(request(name))
    harness.wait("two", until=lambda body: body["SecondaryStatus"] == "Pending")
    harness.jobs.stop("two")
    assert harness.wait("two")["TrainingJobStatus"] == "Stopped"
    assert harness.statuses("two") == ["Starting", "Pending", "Stopping", "Stopped"]
    assert "TrainingStartTime" not in harness.body("two")
    harness.jobs.stop("one")
    assert harness.wait("three")["TrainingJobStatus"] == "Completed"
    harness.close()

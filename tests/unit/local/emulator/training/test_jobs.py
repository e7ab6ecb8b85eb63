"""Training jobs with the toy container in plain processes: from the request to what S3 holds."""

import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulator.api.operations.training import describe
from local.emulator.errors import ServiceError
from local.emulator.executors import Executor
from local.emulator.store import Kind
from tests.unit.local.emulator.parts import BUCKET, Workshop, build, request

pytestmark = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@pytest.fixture
def shop(toy_executor: Executor, tmp_path: Path) -> Iterator[Workshop]:
    workshop = build(tmp_path, toy_executor)
    yield workshop
    workshop.jobs.shutdown()
    workshop.context.store.close()


def names_in(shop: Workshop, key: str) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(shop.objects.read(BUCKET, key))) as tar:
        return tar.getnames()


def training(body: dict[str, object]) -> bool:
    return body["SecondaryStatus"] == "Training"


def test_a_job_runs_from_its_request_to_its_archives(shop: Workshop) -> None:
    body = shop.run()
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Completed"
    assert shop.statuses() == [
        "Starting",
        "Pending",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert body["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model.tar.gz"}
    assert names_in(shop, "out/job/output/model.tar.gz") == ["model.json"]
    assert names_in(shop, "out/job/output/output.tar.gz") == ["data/result.txt"]
    assert [(one["MetricName"], one["Value"]) for one in body["FinalMetricDataList"]] == [
        ("score", 0.833333)
    ]
    assert "FailureReason" not in body
    assert shop.logs.lines()[0] == "toy: job job on algo-1"


def test_what_a_container_says_of_rules_is_shown_at_once_and_kept(shop: Workshop) -> None:
    said = {
        "RuleConfigurationName": "Overfit",
        "RuleEvaluationStatus": "IssuesFound",
        "StatusDetails": "fired at step 4",
    }
    values = {"statuses": json.dumps([said]), "report": "<html>", "seconds": "0.5"}
    shop.jobs.create(
        request(hyperparameters=values, ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/p"})
    )

    def shown(_body: object) -> list[str]:
        answer = describe(shop.services(), {"TrainingJobName": "job"}) or {}
        rules = answer.get("DebugRuleEvaluationStatuses", [])
        return [f"{one['RuleEvaluationStatus']}: {one['StatusDetails']}" for one in rules]

    body = shop.wait(until=lambda body: bool(shown(body)))
    assert training(body)
    assert "DebugRuleEvaluationStatuses" not in body
    body = shop.wait()
    assert shown(body) == ["IssuesFound: fired at step 4"]
    assert (
        shop.objects.read(
            BUCKET, "p/job/rule-output/ProfilerReport/profiler-output/profiler-report.html"
        )
        == b"<html>"
    )
    assert "data/rules/debug.json" in names_in(shop, "out/job/output/output.tar.gz")


def test_every_transition_has_its_times_and_words(shop: Workshop) -> None:
    body = shop.run()
    visits = body["SecondaryStatusTransitions"]
    assert all(visit["StatusMessage"] for visit in visits)
    assert all(visit["StartTime"] <= visit["EndTime"] for visit in visits)
    ends = [visit["EndTime"] for visit in visits[:-1]]
    assert ends == [visit["StartTime"] for visit in visits[1:]]
    assert body["CreationTime"] <= body["TrainingStartTime"] < body["TrainingEndTime"]
    assert body["TrainingTimeInSeconds"] == body["BillableTimeInSeconds"] >= 1


def test_the_description_repeats_the_request(shop: Workshop) -> None:
    further = {
        "CheckpointConfig": {"S3Uri": "s3://bucket/c"},
        "DebugHookConfig": {"S3OutputPath": "s3://bucket/d"},
        "ProfilerConfig": {"S3OutputPath": "s3://bucket/p"},
        "TensorBoardOutputConfig": {"S3OutputPath": "s3://bucket/t"},
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
        "Environment": {"A": "b"},
    }
    body = shop.jobs.create(request(**further), tuning_job_arn="arn:tuning").body
    for field, value in (request() | further).items():
        assert body[field] == value
    assert body["ProfilingStatus"] == "Enabled"
    assert body["TuningJobArn"] == "arn:tuning"
    assert body["SecondaryStatus"] == "Starting"
    assert shop.wait()["TrainingJobStatus"] == "Completed"


def test_a_request_without_a_time_limit_has_a_day(shop: Workshop) -> None:
    body = shop.run(StoppingCondition=None)
    assert body["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}


def test_inputs_are_there_and_gone_after_the_end(shop: Workshop) -> None:
    shop.objects.add("data/cat/1.png", "abc")
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data"}},
    }
    shop.run(InputDataConfig=[channel])
    assert "toy: input train/cat/1.png 3 bytes" in shop.logs.lines()
    folder = shop.context.home.job("training-job", "job")
    left = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert left == [
        "algo-1/input/config/hyperparameters.json",
        "algo-1/input/config/inputdataconfig.json",
        "algo-1/input/config/resourceconfig.json",
        "metrics.jsonl",
    ]
    assert shop.objects.read(BUCKET, "data/cat/1.png") == b"abc"


def test_missing_data_fails_the_job_before_it_trains(shop: Workshop) -> None:
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/gone"}},
    }
    body = shop.run(InputDataConfig=[channel])
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"] == (
        "ClientError: Data download failed: channel train: "
        "no S3 objects found under s3://bucket/gone"
    )
    assert shop.statuses()[-2:] == ["Downloading", "Failed"]


def test_metrics_are_live_and_outlive_the_job(shop: Workshop) -> None:
    shop.jobs.create(request(hyperparameters={"epochs": "1000", "seconds": "0.02"}))
    deadline = time.monotonic() + 10
    while len(shop.jobs.metrics("job")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shop.body()["SecondaryStatus"] == "Training"
    seen = shop.jobs.metrics("job")
    assert [(metric.name, metric.value) for metric in seen[:2]] == [
        ("score", 0.75),
        ("score", 0.833333),
    ]
    shop.jobs.stop("job")
    shop.wait()
    assert shop.jobs.metrics("job")[:2] == seen[:2]
    assert shop.logs.points[:2] == [("score", 0.75), ("score", 0.833333)]
    assert shop.jobs.metrics("nobody") == []


def test_a_job_whose_metric_never_comes_completes_and_its_lines_can_be_seen(
    shop: Workshop,
) -> None:
    body = shop.run(HyperParameters={"epochs": "1", "seconds": "0", "silent": "1"})
    assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    assert "FinalMetricDataList" not in body
    *lines, note = shop.jobs.last_lines("job", 3)
    assert lines == ["toy: epoch 1", "toy: done"]
    assert "score" in note  # the metric that was never seen


def test_a_failure_gives_its_reason_and_its_outputs(shop: Workshop) -> None:
    body = shop.run(HyperParameters={"fail": "no such class: cat"})
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Failed"
    assert body["FailureReason"] == "AlgorithmError: no such class: cat, exit code: 1"
    assert body["SecondaryStatusTransitions"][-1]["StatusMessage"] == body["FailureReason"]
    assert names_in(shop, "out/job/output/output.tar.gz") == ["failure"]
    assert "out/job/output/model.tar.gz" not in shop.objects.names()


def test_a_long_failure_is_cut_and_keeps_its_exit_code(shop: Workshop) -> None:
    reason = shop.run(HyperParameters={"fail": "x" * 5000})["FailureReason"]
    assert len(reason) == 1024
    assert reason.endswith("x, exit code: 1")


def test_a_failure_without_a_message_shows_the_last_line(shop: Workshop) -> None:
    reason = shop.run(HyperParameters={"epochs": "many"})["FailureReason"]
    assert reason.startswith("AlgorithmError: no output/failure was written; the log ends with: ")
    assert reason.endswith(", exit code: 1")


def test_a_stopped_job_keeps_what_it_made(shop: Workshop) -> None:
    shop.jobs.create(
        request(
            hyperparameters={"epochs": "1000", "seconds": "0.02"},
            CheckpointConfig={"S3Uri": "s3://bucket/saved"},
        )
    )
    shop.wait(until=training)
    while not shop.jobs.metrics("job"):
        time.sleep(0.01)
    shop.jobs.stop("job")
    assert shop.body()["TrainingJobStatus"] == "Stopping"
    body = shop.wait()
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Stopped"
    assert shop.statuses()[-4:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert "saved/epoch.txt" in shop.objects.names("saved")
    assert "toy: SIGTERM" in shop.logs.lines()


def test_what_has_ended_or_never_was_cannot_be_stopped(shop: Workshop) -> None:
    shop.run()
    with pytest.raises(ServiceError, match="is in status Completed") as caught:
        shop.jobs.stop("job")
    assert caught.value.code == "ValidationException"
    with pytest.raises(ServiceError) as caught:
        shop.jobs.stop("nobody")
    assert caught.value.code == "ResourceNotFound"


def test_a_job_over_its_time_is_stopped(shop: Workshop) -> None:
    body = shop.run(
        HyperParameters={"epochs": "1000", "seconds": "0.05"},
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )
    assert body["TrainingJobStatus"] == "Stopped"
    assert body["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert "toy: SIGTERM" in shop.logs.lines()


def test_who_ignores_sigterm_is_killed(toy_executor: Executor, tmp_path: Path) -> None:
    from local.emulator.training.run import Timing

    shop = build(tmp_path, toy_executor, timing=Timing(grace=0.2))
    shop.jobs.create(
        request(hyperparameters={"epochs": "1000", "seconds": "0.05", "ignore_sigterm": "1"})
    )
    while not shop.jobs.metrics("job"):
        time.sleep(0.01)
    shop.jobs.stop("job")
    assert shop.wait()["TrainingJobStatus"] == "Stopped"
    shop.context.store.close()


def test_checkpoints_in_s3_are_resumed_from(shop: Workshop) -> None:
    shop.objects.add("saved/epoch.txt", "1")
    shop.run(CheckpointConfig={"S3Uri": "s3://bucket/saved"})
    assert "toy: resuming after epoch 1" in shop.logs.lines()
    assert shop.objects.read(BUCKET, "saved/epoch.txt") == b"2"


def test_an_uncompressed_model_is_its_files(shop: Workshop) -> None:
    output = {"S3OutputPath": "s3://bucket/out", "CompressionType": "NONE"}
    body = shop.run(OutputDataConfig=output)
    assert body["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model/"}
    assert "out/job/output/model/model.json" in shop.objects.names()


def test_a_spot_rehearsal_resumes_and_says_what_was_lost(shop: Workshop) -> None:
    shop.jobs.create(
        request(
            hyperparameters={"epochs": "12", "seconds": "0.1"},
            EnableManagedSpotTraining=True,
            StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
            CheckpointConfig={"S3Uri": "s3://bucket/saved"},
            Tags=[{"Key": "berth:interrupt-after", "Value": "0.6"}],
        )
    )
    body = shop.wait()
    assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    assert [s for s in shop.statuses() if s in {"Training", "Interrupted"}] == [
        "Training",
        "Interrupted",
        "Training",
    ]
    (interruption,) = shop.record().private["interruptions"]
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
    assert any(line.startswith("toy: resuming after epoch") for line in shop.logs.lines())
    assert shop.objects.read(BUCKET, "saved/epoch.txt") == b"12"
    assert len(shop.jobs.metrics("job")) in {12, 13}  # one epoch may be measured but not saved


def test_a_spot_job_that_saves_nothing_in_s3_starts_over(shop: Workshop) -> None:
    shop.jobs.create(
        request(
            hyperparameters={"epochs": "5", "seconds": "0.1"},
            EnableManagedSpotTraining=True,
            Tags=[{"Key": "berth:interrupt-after", "Value": "0.35"}],
        )
    )
    assert shop.wait()["TrainingJobStatus"] == "Completed"
    assert not any(line.startswith("toy: resuming") for line in shop.logs.lines())
    (interruption,) = shop.record().private["interruptions"]
    assert interruption["seconds_lost"] == pytest.approx(interruption["seconds_trained"], abs=0.01)


def test_a_tag_alone_interrupts_nothing(shop: Workshop) -> None:
    shop.run(Tags=[{"Key": "berth:interrupt-after", "Value": "0"}])
    assert "Interrupted" not in shop.statuses()
    assert shop.context.store.tags(shop.record().arn) == {"berth:interrupt-after": "0"}


def test_a_server_that_goes_down_and_comes_up_loses_nothing(shop: Workshop) -> None:
    shop.jobs.create(request(hyperparameters={"epochs": "12", "seconds": "0.05"}))
    while len(shop.jobs.metrics("job")) < 3:
        time.sleep(0.01)
    shop.jobs.shutdown()
    assert shop.body()["SecondaryStatus"] == "Interrupted"
    assert shop.body()["TrainingJobStatus"] == "InProgress"
    with pytest.raises(ServiceError, match="is stopping"):
        shop.jobs.create(request("late"))
    again = shop.restart()
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


def test_names_are_unique(shop: Workshop) -> None:
    shop.run()
    with pytest.raises(ServiceError, match="must be unique") as caught:
        shop.jobs.create(request())
    assert caught.value.code == "ResourceInUse"


def test_an_image_that_cannot_run_here_is_refused_at_once(shop: Workshop) -> None:
    algorithm = {**request()["AlgorithmSpecification"], "TrainingImage": "other:1"}
    with pytest.raises(ServiceError, match=r"TrainingImage: .* found other:1") as caught:
        shop.jobs.create(request(AlgorithmSpecification=algorithm))
    assert caught.value.code == "ValidationException"
    assert shop.context.store.every(Kind.TRAINING_JOB) == []


def test_jobs_beyond_the_places_wait_and_a_waiting_one_can_be_stopped(
    toy_executor: Executor, tmp_path: Path
) -> None:
    shop = build(tmp_path, toy_executor, max_parallel=1)
    shop.jobs.create(request("one", {"epochs": "1000", "seconds": "0.02"}))
    shop.wait("one", until=training)
    for name in ("two", "three"):
        shop.jobs.create(request(name))
    shop.wait("two", until=lambda body: body["SecondaryStatus"] == "Pending")
    shop.jobs.stop("two")
    assert shop.wait("two")["TrainingJobStatus"] == "Stopped"
    assert shop.statuses("two") == ["Starting", "Pending", "Stopping", "Stopped"]
    assert "TrainingStartTime" not in shop.body("two")
    shop.jobs.stop("one")
    assert shop.wait("three")["TrainingJobStatus"] == "Completed"
    shop.jobs.shutdown()
    shop.context.store.close()

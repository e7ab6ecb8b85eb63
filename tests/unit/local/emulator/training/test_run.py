"""Failures of a training job: hosts, engine and disk. Its containers are functions."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.emulator.errors import ServiceError
from local.emulator.executors import ContainerSpec, ExecutorError, ImageMissing
from local.emulator.store import Kind
from local.emulator.training.describe import enter, new_body
from tests.training_requests import channel
from tests.unit.local.emulator.fakes import BUCKET, FakeExecutor
from tests.unit.local.emulator.training_harness import TrainingHarness, build, request

Say = Callable[[str], None]
TWO = {"InstanceType": "ml.m5.large", "InstanceCount": 2}


def save(spec: ContainerSpec, name: str, text: str = "x") -> None:
    path = spec.base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def good(spec: ContainerSpec, say: Say, _sigterm: threading.Event) -> int:
    say(f"toy:score=0.{spec.hostname[-1]};")
    save(spec, f"model/{spec.hostname}")
    save(spec, "output/data/result", spec.hostname)
    return 0


def until_sigterm(spec: ContainerSpec, _say: Say, sigterm: threading.Event) -> int:
    save(spec, "checkpoints/epoch", "1")
    sigterm.wait(60)
    save(spec, "model/partial")
    return 143


@pytest.fixture
def opened() -> Iterator[list[TrainingHarness]]:
    harnesses: list[TrainingHarness] = []
    yield harnesses
    for harness in harnesses:
        harness.close()


@pytest.fixture
def make_harness(tmp_path: Path, opened: list[TrainingHarness]) -> Callable[..., TrainingHarness]:
    def build_one(work: Any, **options: Any) -> TrainingHarness:
        opened.append(build(tmp_path, FakeExecutor(work), **options))
        return opened[-1]

    return build_one


MakeHarness = Callable[..., TrainingHarness]


def engine(harness: TrainingHarness) -> FakeExecutor:
    executor = harness.context.executor
    assert isinstance(executor, FakeExecutor)
    return executor


def nothing_left(harness: TrainingHarness) -> bool:
    return not engine(harness).running and not engine(harness).networks


def in_training(body: dict[str, Any]) -> bool:
    return bool(body["SecondaryStatus"] == "Training")


def start(harness: TrainingHarness, **changes: Any) -> None:
    """Create a job and wait until its containers run."""
    harness.jobs.create(request(**changes))
    harness.wait(until=in_training)
    hosts = changes.get("ResourceConfig", {"InstanceCount": 1})["InstanceCount"]
    engine(harness).wait_for_containers(hosts)


def test_hosts_share_a_private_network_and_a_model(make_harness: MakeHarness) -> None:
    seen: list[dict[str, bool]] = []

    def work(spec: ContainerSpec, say: Say, sigterm: threading.Event) -> int:
        seen.append(dict(engine(harness).networks))
        return good(spec, say, sigterm)

    harness = make_harness(work)
    body = harness.run(ResourceConfig=TWO, EnableNetworkIsolation=True)
    assert body["TrainingJobStatus"] == "Completed"
    assert seen == [{"job": True}] * 2
    specs = engine(harness).specs
    assert [spec.hostname for spec in specs] == ["algo-1", "algo-2"]
    assert [spec.network for spec in specs] == ["job", "job"]
    assert all(spec.isolated for spec in specs)
    assert sorted(metric.value for metric in harness.jobs.metrics("job")) == [0.1, 0.2]
    assert len(harness.logs.streams) == 2
    assert nothing_left(harness)


def test_one_host_needs_no_network(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    harness.run()
    (spec,) = engine(harness).specs
    assert spec.network is None
    assert spec.command == ("train",)
    assert spec.entrypoint is None
    assert spec.read_only == ("input/data",)
    assert spec.gpus
    assert not spec.isolated


def test_the_environment_is_that_of_the_request_and_the_job(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    harness.jobs.create(
        request(Environment={"A": "b", "AWS_REGION": "eu-west-1", "TRAINING_JOB_NAME": "no"}),
        cpus=3,
    )
    harness.wait()
    (spec,) = engine(harness).specs
    assert spec.environment == {
        "A": "b",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TRAINING_JOB_NAME": "job",
        "TRAINING_JOB_ARN": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
    }
    assert spec.cpus == 3


@pytest.mark.parametrize(
    ("given", "entrypoint", "command"),
    [
        ({"ContainerEntrypoint": ["python", "-m"]}, ("python", "-m"), ()),
        ({"ContainerArguments": ["train", "-v"]}, None, ("train", "-v")),
        ({"ContainerEntrypoint": ["a"], "ContainerArguments": ["b"]}, ("a",), ("b",)),
    ],
)
def test_the_request_may_set_the_command(
    given: dict[str, Any],
    entrypoint: tuple[str, ...] | None,
    command: tuple[str, ...],
    make_harness: MakeHarness,
) -> None:
    harness = make_harness(good)
    harness.run(AlgorithmSpecification={**request()["AlgorithmSpecification"], **given})
    (spec,) = engine(harness).specs
    assert (spec.entrypoint, spec.command) == (entrypoint, command)


def test_all_hosts_stop_when_one_fails(make_harness: MakeHarness) -> None:
    def work(spec: ContainerSpec, say: Say, sigterm: threading.Event) -> int:
        if spec.hostname == "algo-2":
            save(spec, "output/failure", "host 2 has no data")
            return 9
        return until_sigterm(spec, say, sigterm)

    harness = make_harness(work)
    body = harness.run(ResourceConfig=TWO)
    assert body["FailureReason"] == "AlgorithmError: host 2 has no data, exit code: 9"
    assert nothing_left(harness)


def test_a_killed_container_suggests_the_most_common_cause(make_harness: MakeHarness) -> None:
    harness = make_harness(lambda *_: 137)
    reason = harness.run()["FailureReason"]
    assert reason.startswith("AlgorithmError: ")
    assert "exit code: 137 (killed, probably because the machine ran out of memory)" in reason


def test_an_engine_that_stops_fails_the_job(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm)
    start(harness, ResourceConfig=TWO)
    engine(harness).gone = True
    body = harness.wait()
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"] == "InternalServerError: the engine does not answer"
    assert "Interrupted" in harness.statuses()
    assert nothing_left(harness)


def test_with_retries_a_job_runs_again_when_the_engine_returns(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness(until_sigterm)
    start(harness, RetryStrategy={"MaximumRetryAttempts": 3})

    def back(body: dict[str, Any]) -> bool:
        return any(v["Status"] == "Interrupted" for v in body["SecondaryStatusTransitions"])

    engine(harness).gone = True
    harness.wait(until=back)
    engine(harness).work = good
    engine(harness).gone = False
    body = harness.wait()
    assert body["TrainingJobStatus"] == "Completed"
    assert (harness.context.home.job("training-job", "job") / "algo-1" / "model").exists() is False


def test_the_number_of_retries_is_limited(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm)
    start(harness, RetryStrategy={"MaximumRetryAttempts": 2})
    engine(harness).gone = True
    body = harness.wait()
    assert body["FailureReason"] == "InternalServerError: the engine does not answer"
    assert harness.statuses().count("Interrupted") == 3


def test_a_deleted_image_fails_the_job(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(good)

    def missing(*_: object) -> None:
        raise ImageMissing("there is no image toy:latest")

    monkeypatch.setattr(engine(harness), "start", missing)
    body = harness.run(ResourceConfig=TWO)
    assert body["FailureReason"] == (
        "ClientError: the training image cannot be used: there is no image toy:latest"
    )
    assert nothing_left(harness)


def test_a_container_that_cannot_start_fails_the_job_if_the_engine_runs(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(good)

    def refused(*_: object) -> None:
        raise ExecutorError("toy:latest has no 'train'")

    monkeypatch.setattr(engine(harness), "start", refused)
    body = harness.run(RetryStrategy={"MaximumRetryAttempts": 3})
    assert body["FailureReason"] == (
        "ClientError: the container cannot be started: toy:latest has no 'train'"
    )
    assert "Interrupted" not in harness.statuses()


def test_an_unreachable_engine_refuses_the_request(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    engine(harness).gone = True
    with pytest.raises(ServiceError, match="the engine does not answer") as caught:
        harness.jobs.create(request())
    assert caught.value.status == 500
    assert harness.context.store.every(Kind.TRAINING_JOB) == []


def test_a_full_disk_at_the_upload_fails_the_job_and_keeps_the_model(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness(good)
    harness.objects.full = True
    body = harness.run()
    assert body["TrainingJobStatus"] == "Failed"
    folder = harness.context.home.job("training-job", "job")
    assert body["FailureReason"] == (
        "ClientError: Artifact upload failed: no space left on this machine's disk; free some "
        f"and start the job again; the results are still in {folder}"
    )
    assert (folder / "algo-1" / "model" / "algo-1").exists()
    assert nothing_left(harness)


def test_a_failed_removal_does_not_fail_the_job(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("local.emulator.training.opt_ml.OptMl.clear", refused)
    assert make_harness(good).run()["TrainingJobStatus"] == "Completed"
    assert "some files remain: [Errno 13] Permission denied" in caplog.text


def test_inputs_are_removed_even_if_the_upload_failed(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    harness.objects.add("data/1")
    body = harness.run(
        InputDataConfig=[channel("train", "s3://bucket/data")],
        OutputDataConfig={"S3OutputPath": "s3://nowhere/out"},
    )
    assert body["TrainingJobStatus"] == "Failed"
    folder = harness.context.home.job("training-job", "job") / "algo-1"
    assert (folder / "model").exists()
    assert not (folder / "input" / "data").exists()


def test_a_full_disk_at_the_download_fails_the_job(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(good)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    harness.objects.add("data/1")
    monkeypatch.setattr(harness.objects, "copy", full)
    body = harness.run(InputDataConfig=[channel("train", "s3://bucket/data")])
    reason = body["FailureReason"]
    assert reason.startswith("ClientError: Data download failed: no space left on this machine")


def test_a_missing_output_bucket_is_named(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    body = harness.run(OutputDataConfig={"S3OutputPath": "s3://nowhere/out"})
    assert "Artifact upload failed: s3://nowhere: no such bucket" in body["FailureReason"]


def test_an_unexpected_error_fails_the_job_and_frees_its_place(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness = make_harness(good, max_parallel=1)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(harness.logs, "open", broken)
        body = harness.run()
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"] == "InternalServerError: a bug; see the server's log"
    assert "ZeroDivisionError" in caplog.text
    assert harness.run(TrainingJobName="next")["TrainingJobStatus"] == "Completed"


def test_live_output_is_uploaded_to_the_locations_of_aws(make_harness: MakeHarness) -> None:
    def work(spec: ContainerSpec, _say: Say, _sigterm: threading.Event) -> int:
        save(spec, "output/tensors/events/1")
        save(spec, "output/tensorboard/run")
        save(spec, "output/profiler/system/x")
        save(spec, "output/profiler/framework/y.json.tmp")
        save(spec, "output/profiler/.sagemaker-ignore/z.json")
        return 0

    harness = make_harness(work)
    harness.run(
        DebugHookConfig={"S3OutputPath": "s3://bucket/d"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://bucket/t/"},
        ProfilerConfig={"S3OutputPath": "s3://bucket/p"},
    )
    assert harness.objects.names() == [
        "d/job/debug-output/events/1",
        "p/job/profiler-output/system/x",
        "t/job/tensorboard-output/run",
    ]


def test_live_output_is_never_read_through_a_link(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "profiler").mkdir(parents=True)
    (tmp_path / "elsewhere" / "profiler" / "secret").write_text("x")

    def work(spec: ContainerSpec, _say: Say, _sigterm: threading.Event) -> int:
        (spec.base / "output").rename(spec.base / "moved")
        (spec.base / "output").symlink_to(tmp_path / "elsewhere")
        return 0

    harness = make_harness(work)
    body = harness.run(ProfilerConfig={"S3OutputPath": "s3://bucket/p"})
    assert body["TrainingJobStatus"] == "Completed"
    assert harness.objects.names() == []


RULES: dict[str, Any] = {
    "DebugHookConfig": {"S3OutputPath": "s3://bucket/d"},
    "DebugRuleConfigurations": [{"RuleConfigurationName": "Overfit", "RuleEvaluatorImage": "x"}],
}


def rules(harness: TrainingHarness) -> dict[str, str]:
    """Return the stored statuses of the debugger rules."""
    return {
        one["RuleConfigurationName"]: one["RuleEvaluationStatus"]
        for one in harness.body()["DebugRuleEvaluationStatuses"]
    }


def test_findings_of_rules_before_an_interruption_are_kept(make_harness: MakeHarness) -> None:
    statuses = [
        {"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound"},
        {"RuleConfigurationName": "mine", "RuleEvaluationStatus": "Stopped"},
    ]
    between: list[dict[str, str]] = []

    def work(spec: ContainerSpec, say: Say, sigterm: threading.Event) -> int:
        if harness.statuses().count("Training") == 1:
            save(spec, "output/data/rules/debug.json", json.dumps(statuses))
            return until_sigterm(spec, say, sigterm)
        between.append(rules(harness))
        assert not (spec.base / "output/data/rules").exists()
        statuses[1]["RuleEvaluationStatus"] = "NoIssuesFound"
        save(spec, "output/data/rules/debug.json", json.dumps(statuses[1:]))
        return 0

    harness = make_harness(work)
    tags = [{"Key": "berth:interrupt-after", "Value": "0.3"}]
    spot = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    harness.run(**RULES, EnableManagedSpotTraining=True, StoppingCondition=spot, Tags=tags)
    assert between == [{"Overfit": "IssuesFound", "mine": "InProgress"}]
    assert rules(harness) == {"Overfit": "IssuesFound", "mine": "NoIssuesFound"}


def test_rules_of_a_stopped_job_are_stopped(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm)
    start(harness, **RULES)
    assert rules(harness) == {"Overfit": "InProgress"}
    harness.jobs.stop("job")
    harness.wait()
    assert rules(harness) == {"Overfit": "Stopped"}


def test_rules_of_a_job_that_never_started(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm, max_parallel=1)
    start(harness, **RULES)
    harness.jobs.create(request("second", **RULES))
    harness.jobs.stop("second")
    waiting = harness.wait("second")
    assert waiting["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] == "Stopped"


def test_a_missing_rules_file_fails_the_download(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    own = {"rule_to_invoke": "Mine", "source_s3_uri": "s3://bucket/mine.py"}
    given = {**RULES["DebugRuleConfigurations"][0], "RuleParameters": own}
    body = harness.run(DebugRuleConfigurations=[given])
    assert body["FailureReason"] == (
        "ClientError: Data download failed: rule Overfit: no such object: s3://bucket/mine.py"
    )
    assert rules(harness) == {"Overfit": "Error"}


def test_the_report_is_uploaded_to_the_location_of_aws(make_harness: MakeHarness) -> None:
    def work(spec: ContainerSpec, _say: Say, _sigterm: threading.Event) -> int:
        save(spec, "output/data/report/profiler-report.html")
        save(spec, "output/data/report/profiler-reports/BatchSize.json")
        return 0

    harness = make_harness(work)
    config = {"S3OutputPath": "s3://bucket/p"}
    harness.run(ProfilerConfig=config)
    rule = {
        "RuleConfigurationName": "ProfilerReport-17",
        "RuleEvaluatorImage": "x",
        "RuleParameters": {"rule_to_invoke": "ProfilerReport"},
    }
    harness.run(TrainingJobName="named", ProfilerConfig=config, ProfilerRuleConfigurations=[rule])
    report = "profiler-output/profiler-report"
    assert harness.objects.names("p/") == [
        f"p/job/rule-output/ProfilerReport/{report}.html",
        f"p/job/rule-output/ProfilerReport/{report}s/BatchSize.json",
        f"p/named/rule-output/ProfilerReport-17/{report}.html",
        f"p/named/rule-output/ProfilerReport-17/{report}s/BatchSize.json",
    ]


def test_checkpoints_are_in_s3_while_the_job_runs(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.emulator.training.job_attempt.SYNC_SECONDS", 0.02)
    harness = make_harness(until_sigterm)
    start(harness, CheckpointConfig={"S3Uri": "s3://bucket/saved"})
    assert harness.objects.wait_for("saved") == ["saved/epoch"]
    assert harness.body()["SecondaryStatus"] == "Training"
    assert harness.objects.read(BUCKET, "saved/epoch") == b"1"


def test_a_stopped_job_uploads_its_model(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm)
    start(harness)
    harness.jobs.stop("job")
    harness.jobs.stop("job")
    assert harness.wait()["TrainingJobStatus"] == "Stopped"
    assert harness.objects.names() == ["out/job/output/model.tar.gz"]


def test_a_spot_job_that_waits_too_long_is_stopped(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm, max_parallel=1)
    start(harness)
    harness.jobs.create(
        request(
            "spot",
            EnableManagedSpotTraining=True,
            StoppingCondition={"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1},
        )
    )
    body = harness.wait("spot")
    assert (body["TrainingJobStatus"], body["SecondaryStatus"]) == (
        "Stopped",
        "MaxWaitTimeExceeded",
    )


def leave_behind(
    harness: TrainingHarness, *statuses: str, private: dict[str, Any] | None = None, **changes: Any
) -> None:
    """Store a job as a killed server would, with its last status a minute ago."""
    wanted = request(StoppingCondition={"MaxRuntimeInSeconds": 3600}, **changes)
    arn = harness.context.arn(Kind.TRAINING_JOB, "job")
    then = datetime.now(UTC) - timedelta(seconds=60 + 10 * len(statuses))
    body = new_body(wanted, arn, None, then)
    for number, status in enumerate(statuses, start=1):
        enter(body, status, then + timedelta(seconds=10 * number))
    harness.context.store.add(
        Kind.TRAINING_JOB, "job", arn, body, {"request": wanted, "cpus": None, **(private or {})}
    )
    folder = harness.context.home.job("training-job", "job")
    for name in ("algo-1/checkpoints/epoch", "algo-1/model/model.json", "pulse"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
        seconds = then.timestamp() + 10 * len(statuses) + (5 if name == "pulse" else 2)
        os.utime(folder / name, (seconds, seconds))


def test_a_job_of_a_killed_server_restarts_from_its_checkpoints(
    make_harness: MakeHarness,
) -> None:
    seen: list[str] = []

    def work(spec: ContainerSpec, say: Say, sigterm: threading.Event) -> int:
        seen.append((spec.base / "checkpoints" / "epoch").read_text())
        seen.append(str((spec.base / "model" / "model.json").exists()))
        return good(spec, say, sigterm)

    harness = make_harness(work)
    leave_behind(harness, "Pending", "Downloading", "Training")
    harness.jobs.recover()
    body = harness.wait()
    assert body["TrainingJobStatus"] == "Completed"
    assert seen == ["1", "False"]
    assert harness.statuses() == [
        "Starting",
        "Pending",
        "Downloading",
        "Training",
        "Interrupted",
        "Starting",
        "Pending",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    (interruption,) = harness.record().private["interruptions"]
    assert interruption["cause"] == "crash"
    assert interruption["seconds_trained"] == pytest.approx(5.0, abs=0.01)
    assert interruption["seconds_lost"] == pytest.approx(3.0, abs=0.01)
    assert body["SecondaryStatusTransitions"][4]["StatusMessage"].startswith(
        "The local SageMaker was killed after "
    )


@pytest.mark.parametrize(
    ("statuses", "epoch"), [(("Pending", "Downloading"), "7"), (("Downloading", "Training"), "1")]
)
def test_an_interrupted_restore_is_repeated_only_before_training(
    statuses: tuple[str, ...], epoch: str, make_harness: MakeHarness
) -> None:
    seen: list[str] = []

    def work(spec: ContainerSpec, _say: Say, _sigterm: threading.Event) -> int:
        seen.append((spec.base / "checkpoints" / "epoch").read_text())
        return 0

    harness = make_harness(work)
    harness.objects.add("saved/epoch", "7")
    leave_behind(harness, *statuses, CheckpointConfig={"S3Uri": "s3://bucket/saved"})
    harness.jobs.recover()
    harness.wait()
    assert seen == [epoch]


def test_lines_printed_while_no_server_ran_are_logged_and_measured_once(
    make_harness: MakeHarness,
) -> None:
    harness = make_harness(lambda *_: 0)
    leave_behind(harness, "Pending", "Downloading", "Training")
    heard = ["toy: begins", "toy:score=0.5;"]
    with_one_lost = [*heard, "toy:score=0.7;", "toy: begins"]
    stream = harness.logs.open("/aws/sagemaker/TrainingJobs", "job/algo-1-1")
    for line in heard:
        stream.write(line)
    said = harness.context.home.job("training-job", "job") / "algo-1.said"
    said.write_text("".join(f"{line}\n" for line in with_one_lost))
    harness.jobs.recover()
    body = harness.wait()
    assert sorted(harness.logs.lines()) == sorted(with_one_lost)
    assert [each["Value"] for each in body["FinalMetricDataList"]] == [pytest.approx(0.7)]
    assert [each.value for each in harness.jobs.metrics("job")] == [0.7]
    assert ("score", 0.7) in harness.logs.points
    assert not said.exists()


def test_time_without_an_instance_is_not_billed(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    leave_behind(harness, "Pending", "Downloading", "Training", "Interrupted")
    harness.jobs.recover()
    body = harness.wait()
    assert body["TrainingTimeInSeconds"] in range(80, 85)
    assert body["BillableTimeInSeconds"] in range(20, 25)


@pytest.mark.parametrize("statuses", [(), ("Pending",), ("Pending", "Downloading")])
def test_a_job_that_had_not_started_is_started(
    statuses: tuple[str, ...], make_harness: MakeHarness
) -> None:
    harness = make_harness(good)
    leave_behind(harness, *statuses)
    harness.jobs.recover()
    assert harness.wait()["TrainingJobStatus"] == "Completed"
    assert "Interrupted" not in harness.statuses()


def test_an_interrupted_upload_is_repeated(make_harness: MakeHarness) -> None:
    harness = make_harness(lambda *_: pytest.fail("it had ended"))
    ending = {"status": "Completed", "secondary": "Completed", "reason": None}
    leave_behind(
        harness, "Pending", "Downloading", "Training", "Uploading", private={"ending": ending}
    )
    harness.jobs.recover()
    assert harness.wait()["TrainingJobStatus"] == "Completed"
    assert harness.objects.names() == ["out/job/output/model.tar.gz"]
    assert engine(harness).specs == []


def test_a_job_that_was_being_stopped_is_stopped(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    leave_behind(harness, "Pending", "Downloading", "Training", "Stopping")
    harness.jobs.recover()
    assert harness.wait()["TrainingJobStatus"] == "Stopped"
    assert harness.objects.names() == ["out/job/output/model.tar.gz"]


def test_a_job_without_its_folder_fails_with_a_reason(make_harness: MakeHarness) -> None:
    import shutil

    harness = make_harness(good)
    leave_behind(harness, "Pending", "Downloading", "Training")
    shutil.rmtree(harness.context.home.job("training-job", "job"))
    harness.jobs.recover()
    body = harness.wait()
    assert body["TrainingJobStatus"] == "Failed"
    assert "its folder" in body["FailureReason"]
    assert body["FailureReason"].endswith("is missing")


def test_a_job_killed_before_its_folder_existed_is_started(
    make_harness: MakeHarness,
) -> None:
    import shutil

    harness = make_harness(good)
    leave_behind(harness)
    shutil.rmtree(harness.context.home.job("training-job", "job"))
    harness.jobs.recover()
    assert harness.wait()["TrainingJobStatus"] == "Completed"


def test_a_job_with_more_hosts_than_the_executor_now_runs_fails_with_a_reason(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(good)
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    leave_behind(harness, "Pending", "Downloading", "Training", ResourceConfig=resources)
    monkeypatch.setattr(engine(harness), "max_hosts", 1)
    harness.jobs.recover()
    body = harness.wait()
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"].startswith("ClientError: the job's 2 hosts cannot be restarted")
    assert "--executor docker" in body["FailureReason"]
    assert engine(harness).specs == []


def test_a_job_without_its_image_fails_with_a_reason(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(good)
    leave_behind(harness, "Pending", "Downloading", "Training")

    def missing(*_: object) -> None:
        raise ImageMissing("there is no image toy:latest")

    monkeypatch.setattr(engine(harness), "check_image", missing)
    harness.jobs.recover()
    assert "there is no image toy:latest" in harness.wait()["FailureReason"]


def test_ended_jobs_are_not_changed(make_harness: MakeHarness) -> None:
    harness = make_harness(good)
    before = harness.run()
    harness.jobs.recover()
    assert harness.body() == before
    assert not harness.jobs.running("job")


def test_a_job_created_before_the_recovery_runs_once(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm)
    start(harness)
    harness.jobs.recover()
    harness.jobs.stop("job")
    harness.wait()
    assert len(engine(harness).specs) == 1


def test_waiting_jobs_survive_two_restarts(make_harness: MakeHarness) -> None:
    harness = make_harness(until_sigterm, max_parallel=1)
    start(harness)
    harness.jobs.create(request("second"))
    harness.wait("second", until=lambda body: body["SecondaryStatus"] == "Pending")
    harness.jobs.shutdown()
    assert harness.body()["SecondaryStatus"] == "Interrupted"
    assert harness.body("second")["SecondaryStatus"] == "Pending"
    assert nothing_left(harness)
    engine(harness).work = good
    again = harness.restart()
    assert again.wait("second")["TrainingJobStatus"] == "Completed"
    assert again.wait()["TrainingJobStatus"] == "Completed"
    again.context.store.close()


def test_problems_of_a_regex_are_in_the_jobs_log(make_harness: MakeHarness) -> None:
    def work(_spec: ContainerSpec, say: Say, _sigterm: threading.Event) -> int:
        say("x" * 60 + " y")
        return 0

    harness = make_harness(work)
    algorithm = {
        **request()["AlgorithmSpecification"],
        "MetricDefinitions": [{"Name": "bad", "Regex": "(?:x|xx)+y([0-9])"}],
    }
    assert harness.run(AlgorithmSpecification=algorithm)["TrainingJobStatus"] == "Completed"
    assert "berth: metric bad: its regular expression took over" in harness.logs.lines()[1]


def test_a_metric_without_a_match_is_named_in_the_log(
    tmp_path: Path, opened: list[TrainingHarness]
) -> None:
    harness = build(tmp_path, FakeExecutor(good))
    opened.append(harness)
    definitions = [
        {"Name": "score", "Regex": "toy:score=([0-9.]+);"},
        {"Name": "f1", "Regex": "f1=([0-9.]+)"},
    ]
    body = harness.run(
        AlgorithmSpecification={
            "TrainingImage": "toy:latest",
            "TrainingInputMode": "File",
            "MetricDefinitions": definitions,
        }
    )
    assert body["TrainingJobStatus"] == "Completed"
    said = [line for line in harness.logs.lines() if line.startswith("berth: ")]
    assert len(said) == 1
    assert "f1 (f1=([0-9.]+))" in said[0]
    assert "score" not in said[0]

"""What can go wrong with a training job: hosts, engine, disk. Its containers are functions."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.emulator.errors import ServiceError
from local.emulator.executors import ContainerSpec, ExecutorError, ImageMissing
from local.emulator.store import Kind
from local.emulator.training.body import enter, new_body
from tests.unit.local.emulator.parts import BUCKET, Pretender, Workshop, build, request

Say = Callable[[str], None]
TWO = {"InstanceType": "ml.m5.large", "InstanceCount": 2}


def save(spec: ContainerSpec, name: str, text: str = "x") -> None:
    path = spec.base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def good(spec: ContainerSpec, say: Say, _told: threading.Event) -> int:
    say(f"toy:score=0.{spec.hostname[-1]};")
    save(spec, f"model/{spec.hostname}")
    save(spec, "output/data/result", spec.hostname)
    return 0


def until_told(spec: ContainerSpec, _say: Say, told: threading.Event) -> int:
    save(spec, "checkpoints/epoch", "1")
    told.wait(10)
    save(spec, "model/partial")
    return 143


@pytest.fixture
def opened() -> Iterator[list[Workshop]]:
    shops: list[Workshop] = []
    yield shops
    for shop in shops:
        shop.jobs.shutdown()
        shop.context.store.close()


@pytest.fixture
def open_shop(tmp_path: Path, opened: list[Workshop]) -> Callable[..., Workshop]:
    def build_one(work: Any, **options: Any) -> Workshop:
        opened.append(build(tmp_path, Pretender(work), **options))
        return opened[-1]

    return build_one


Opener = Callable[..., Workshop]


def engine(shop: Workshop) -> Pretender:
    executor = shop.context.executor
    assert isinstance(executor, Pretender)
    return executor


def nothing_left(shop: Workshop) -> bool:
    return not engine(shop).running and not engine(shop).networks


def in_training(body: dict[str, Any]) -> bool:
    return bool(body["SecondaryStatus"] == "Training")


def start(shop: Workshop, **changes: Any) -> None:
    """Create a job and wait until its containers run."""
    shop.jobs.create(request(**changes))
    shop.wait(until=in_training)
    hosts = changes.get("ResourceConfig", {"InstanceCount": 1})["InstanceCount"]
    deadline = time.monotonic() + 5
    while len(engine(shop).running) < hosts and time.monotonic() < deadline:
        time.sleep(0.01)


def test_hosts_share_a_private_network_and_a_model(open_shop: Opener) -> None:
    shop = open_shop(good)
    seen: list[dict[str, bool]] = []
    engine(shop).work = lambda *given: (seen.append(dict(engine(shop).networks)), good(*given))[1]
    body = shop.run(ResourceConfig=TWO, EnableNetworkIsolation=True)
    assert body["TrainingJobStatus"] == "Completed"
    assert seen == [{"job": True}] * 2
    specs = engine(shop).specs
    assert [spec.hostname for spec in specs] == ["algo-1", "algo-2"]
    assert [spec.network for spec in specs] == ["job", "job"]
    assert all(spec.isolated for spec in specs)
    assert sorted(metric.value for metric in shop.jobs.metrics("job")) == [0.1, 0.2]
    assert len(shop.logs.streams) == 2
    assert nothing_left(shop)


def test_one_host_needs_no_network(open_shop: Opener) -> None:
    shop = open_shop(good)
    shop.run()
    (spec,) = engine(shop).specs
    assert spec.network is None
    assert spec.command == ("train",)
    assert spec.entrypoint is None
    assert spec.read_only == ("input/data",)
    assert spec.gpus
    assert not spec.isolated


def test_the_environment_is_the_requests_and_the_jobs(open_shop: Opener) -> None:
    shop = open_shop(good)
    shop.jobs.create(
        request(Environment={"A": "b", "AWS_REGION": "eu-west-1", "TRAINING_JOB_NAME": "no"}),
        cpus=3,
    )
    shop.wait()
    (spec,) = engine(shop).specs
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
def test_the_request_may_name_the_command(
    given: dict[str, Any],
    entrypoint: tuple[str, ...] | None,
    command: tuple[str, ...],
    open_shop: Opener,
) -> None:
    shop = open_shop(good)
    shop.run(AlgorithmSpecification={**request()["AlgorithmSpecification"], **given})
    (spec,) = engine(shop).specs
    assert (spec.entrypoint, spec.command) == (entrypoint, command)


def test_all_hosts_stop_when_one_fails(open_shop: Opener) -> None:
    def work(spec: ContainerSpec, say: Say, told: threading.Event) -> int:
        if spec.hostname == "algo-2":
            save(spec, "output/failure", "host 2 has no data")
            return 9
        return until_told(spec, say, told)

    shop = open_shop(work)
    body = shop.run(ResourceConfig=TWO)
    assert body["FailureReason"] == "AlgorithmError: host 2 has no data, exit code: 9"
    assert nothing_left(shop)


def test_a_killed_container_says_what_most_often_kills(open_shop: Opener) -> None:
    shop = open_shop(lambda *_: 137)
    reason = shop.run()["FailureReason"]
    assert reason.startswith("AlgorithmError: ")
    assert "exit code: 137 (killed: most often the machine ran out of memory)" in reason


def test_an_engine_that_goes_away_fails_the_job(open_shop: Opener) -> None:
    shop = open_shop(until_told)
    start(shop, ResourceConfig=TWO)
    engine(shop).gone = True
    body = shop.wait()
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"] == "InternalServerError: the engine does not answer"
    assert "Interrupted" in shop.statuses()
    assert nothing_left(shop)


def test_an_engine_that_comes_back_gets_the_job_again_when_asked_to(open_shop: Opener) -> None:
    shop = open_shop(until_told)
    start(shop, RetryStrategy={"MaximumRetryAttempts": 3})

    def back(body: dict[str, Any]) -> bool:
        return any(v["Status"] == "Interrupted" for v in body["SecondaryStatusTransitions"])

    engine(shop).gone = True
    shop.wait(until=back)
    engine(shop).work = good
    engine(shop).gone = False
    body = shop.wait()
    assert body["TrainingJobStatus"] == "Completed"
    assert (shop.context.home.job("training-job", "job") / "algo-1" / "model").exists() is False


def test_retries_come_to_an_end(open_shop: Opener) -> None:
    shop = open_shop(until_told)
    start(shop, RetryStrategy={"MaximumRetryAttempts": 2})
    engine(shop).gone = True
    body = shop.wait()
    assert body["FailureReason"] == "InternalServerError: the engine does not answer"
    assert shop.statuses().count("Interrupted") == 3


def test_an_image_that_goes_away_fails_the_job(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(good)

    def missing(*_: object) -> None:
        raise ImageMissing("there is no image toy:latest")

    monkeypatch.setattr(engine(shop), "start", missing)
    body = shop.run(ResourceConfig=TWO)
    assert body["FailureReason"] == (
        "ClientError: the training image cannot be used: there is no image toy:latest"
    )
    assert nothing_left(shop)


def test_a_container_that_cannot_start_is_the_requests_fault_while_the_engine_lives(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(good)

    def refused(*_: object) -> None:
        raise ExecutorError("toy:latest has no 'train'")

    monkeypatch.setattr(engine(shop), "start", refused)
    body = shop.run(RetryStrategy={"MaximumRetryAttempts": 3})
    assert body["FailureReason"] == (
        "ClientError: the container cannot be started: toy:latest has no 'train'"
    )
    assert "Interrupted" not in shop.statuses()


def test_an_engine_that_is_gone_at_the_start_refuses_the_request(open_shop: Opener) -> None:
    shop = open_shop(good)
    engine(shop).gone = True
    with pytest.raises(ServiceError, match="the engine does not answer") as caught:
        shop.jobs.create(request())
    assert caught.value.status == 500
    assert shop.context.store.every(Kind.TRAINING_JOB) == []


def test_a_full_disk_at_the_upload_fails_the_job_and_keeps_the_model(open_shop: Opener) -> None:
    shop = open_shop(good)
    shop.objects.full = True
    body = shop.run()
    assert body["TrainingJobStatus"] == "Failed"
    folder = shop.context.home.job("training-job", "job")
    assert body["FailureReason"] == (
        "ClientError: Artifact upload failed: no space is left on this machine's disk; free some "
        f"and start the job again; what the job made is still in {folder}"
    )
    assert (folder / "algo-1" / "model" / "algo-1").exists()
    assert nothing_left(shop)


def test_what_cannot_be_removed_does_not_fail_the_job(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("local.emulator.training.layout.Tree.clear", refused)
    assert open_shop(good).run()["TrainingJobStatus"] == "Completed"
    assert "not all was removed: [Errno 13] Permission denied" in caplog.text


def test_inputs_are_gone_even_if_the_upload_failed(open_shop: Opener) -> None:
    shop = open_shop(good)
    shop.objects.add("data/1")
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data"}},
    }
    body = shop.run(
        InputDataConfig=[channel], OutputDataConfig={"S3OutputPath": "s3://nowhere/out"}
    )
    assert body["TrainingJobStatus"] == "Failed"
    folder = shop.context.home.job("training-job", "job") / "algo-1"
    assert (folder / "model").exists()
    assert not (folder / "input" / "data").exists()


def test_a_full_disk_at_the_download_fails_the_job(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(good)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    shop.objects.add("data/1")
    monkeypatch.setattr(shop.objects, "copy", full)
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data"}},
    }
    reason = shop.run(InputDataConfig=[channel])["FailureReason"]
    assert reason.startswith("ClientError: Data download failed: no space is left on this machine")


def test_a_missing_output_bucket_is_named(open_shop: Opener) -> None:
    shop = open_shop(good)
    body = shop.run(OutputDataConfig={"S3OutputPath": "s3://nowhere/out"})
    assert "Artifact upload failed: s3://nowhere: no such bucket" in body["FailureReason"]


def test_what_nobody_thought_of_fails_the_job_and_frees_its_place(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop = open_shop(good, max_parallel=1)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(shop.logs, "open", broken)
        body = shop.run()
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"] == "InternalServerError: a bug; the server's log says more"
    assert "ZeroDivisionError" in caplog.text
    assert shop.run(TrainingJobName="next")["TrainingJobStatus"] == "Completed"


def test_live_output_goes_where_aws_keeps_it(open_shop: Opener) -> None:
    def work(spec: ContainerSpec, _say: Say, _told: threading.Event) -> int:
        save(spec, "output/tensors/events/1")
        save(spec, "output/tensorboard/run")
        save(spec, "output/profiler/system/x")
        save(spec, "output/profiler/framework/y.json.tmp")
        save(spec, "output/profiler/.sagemaker-ignore/z.json")
        return 0

    shop = open_shop(work)
    shop.run(
        DebugHookConfig={"S3OutputPath": "s3://bucket/d"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://bucket/t/"},
        ProfilerConfig={"S3OutputPath": "s3://bucket/p"},
    )
    assert shop.objects.names() == [
        "d/job/debug-output/events/1",
        "p/job/profiler-output/system/x",
        "t/job/tensorboard-output/run",
    ]


def test_live_output_is_never_read_through_a_link(open_shop: Opener, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "profiler").mkdir(parents=True)
    (tmp_path / "elsewhere" / "profiler" / "secret").write_text("x")

    def work(spec: ContainerSpec, _say: Say, _told: threading.Event) -> int:
        (spec.base / "output").rename(spec.base / "moved")
        (spec.base / "output").symlink_to(tmp_path / "elsewhere")
        return 0

    shop = open_shop(work)
    body = shop.run(ProfilerConfig={"S3OutputPath": "s3://bucket/p"})
    assert body["TrainingJobStatus"] == "Completed"
    assert shop.objects.names() == []


RULES = {
    "DebugHookConfig": {"S3OutputPath": "s3://bucket/d"},
    "DebugRuleConfigurations": [{"RuleConfigurationName": "Overfit", "RuleEvaluatorImage": "x"}],
}


def rules(shop: Workshop) -> dict[str, str]:
    """The debugger rules' statuses, as kept."""
    return {
        one["RuleConfigurationName"]: one["RuleEvaluationStatus"]
        for one in shop.body()["DebugRuleEvaluationStatuses"]
    }


def test_rules_found_before_an_interruption_stay_found(open_shop: Opener) -> None:
    statuses = [
        {"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound"},
        {"RuleConfigurationName": "mine", "RuleEvaluationStatus": "Stopped"},
    ]
    between: list[dict[str, str]] = []

    def work(spec: ContainerSpec, say: Say, told: threading.Event) -> int:
        if shop.statuses().count("Training") == 1:
            save(spec, "output/data/rules/debug.json", json.dumps(statuses))
            return until_told(spec, say, told)
        between.append(rules(shop))
        assert not (spec.base / "output/data/rules").exists()
        statuses[1]["RuleEvaluationStatus"] = "NoIssuesFound"
        save(spec, "output/data/rules/debug.json", json.dumps(statuses[1:]))
        return 0

    shop = open_shop(work)
    tags = [{"Key": "berth:interrupt-after", "Value": "0.3"}]
    spot = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    shop.run(**RULES, EnableManagedSpotTraining=True, StoppingCondition=spot, Tags=tags)
    assert between == [{"Overfit": "IssuesFound", "mine": "InProgress"}]
    assert rules(shop) == {"Overfit": "IssuesFound", "mine": "NoIssuesFound"}


def test_rules_of_a_stopped_job_are_stopped(open_shop: Opener) -> None:
    shop = open_shop(until_told)
    start(shop, **RULES)
    assert rules(shop) == {"Overfit": "InProgress"}
    shop.jobs.stop("job")
    shop.wait()
    assert rules(shop) == {"Overfit": "Stopped"}


def test_rules_of_a_job_that_never_ran(open_shop: Opener) -> None:
    shop = open_shop(until_told, max_parallel=1)
    start(shop, **RULES)
    shop.jobs.create(request("second", **RULES))
    shop.jobs.stop("second")
    waiting = shop.wait("second")
    assert waiting["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] == "Stopped"


def test_a_rules_file_that_is_gone_fails_the_download(open_shop: Opener) -> None:
    shop = open_shop(good)
    own = {"rule_to_invoke": "Mine", "source_s3_uri": "s3://bucket/mine.py"}
    given = {**RULES["DebugRuleConfigurations"][0], "RuleParameters": own}  # type: ignore[dict-item]
    body = shop.run(DebugRuleConfigurations=[given])
    assert body["FailureReason"] == (
        "ClientError: Data download failed: rule Overfit: there is no s3://bucket/mine.py"
    )
    assert rules(shop) == {"Overfit": "Error"}


def test_the_report_goes_where_aws_puts_it(open_shop: Opener) -> None:
    def work(spec: ContainerSpec, _say: Say, _told: threading.Event) -> int:
        save(spec, "output/data/report/profiler-report.html")
        save(spec, "output/data/report/profiler-reports/BatchSize.json")
        return 0

    shop = open_shop(work)
    config = {"S3OutputPath": "s3://bucket/p"}
    shop.run(ProfilerConfig=config)
    rule = {
        "RuleConfigurationName": "ProfilerReport-17",
        "RuleEvaluatorImage": "x",
        "RuleParameters": {"rule_to_invoke": "ProfilerReport"},
    }
    shop.run(TrainingJobName="named", ProfilerConfig=config, ProfilerRuleConfigurations=[rule])
    report = "profiler-output/profiler-report"
    assert shop.objects.names("p/") == [
        f"p/job/rule-output/ProfilerReport/{report}.html",
        f"p/job/rule-output/ProfilerReport/{report}s/BatchSize.json",
        f"p/named/rule-output/ProfilerReport-17/{report}.html",
        f"p/named/rule-output/ProfilerReport-17/{report}s/BatchSize.json",
    ]


def test_checkpoints_are_in_s3_while_the_job_runs(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.emulator.training.attempt.SYNC_SECONDS", 0.02)
    shop = open_shop(until_told)
    start(shop, CheckpointConfig={"S3Uri": "s3://bucket/saved"})
    deadline = time.monotonic() + 5
    while not shop.objects.names("saved") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shop.body()["SecondaryStatus"] == "Training"
    assert shop.objects.read(BUCKET, "saved/epoch") == b"1"


def test_a_stopped_job_uploads_its_model(open_shop: Opener) -> None:
    shop = open_shop(until_told)
    start(shop)
    shop.jobs.stop("job")
    shop.jobs.stop("job")
    assert shop.wait()["TrainingJobStatus"] == "Stopped"
    assert shop.objects.names() == ["out/job/output/model.tar.gz"]


def test_a_spot_job_that_waits_too_long_is_stopped(open_shop: Opener) -> None:
    shop = open_shop(until_told, max_parallel=1)
    start(shop)
    shop.jobs.create(
        request(
            "spot",
            EnableManagedSpotTraining=True,
            StoppingCondition={"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1},
        )
    )
    body = shop.wait("spot")
    assert (body["TrainingJobStatus"], body["SecondaryStatus"]) == (
        "Stopped",
        "MaxWaitTimeExceeded",
    )


def leave_behind(
    shop: Workshop, *statuses: str, private: dict[str, Any] | None = None, **changes: Any
) -> None:
    """A job in the state a killed server leaves: seconds apart, the last status a minute ago."""
    wanted = request(StoppingCondition={"MaxRuntimeInSeconds": 3600}, **changes)
    arn = shop.context.arn(Kind.TRAINING_JOB, "job")
    then = datetime.now(UTC) - timedelta(seconds=60 + 10 * len(statuses))
    body = new_body(wanted, arn, None, then)
    for number, status in enumerate(statuses, start=1):
        enter(body, status, then + timedelta(seconds=10 * number))
    shop.context.store.add(
        Kind.TRAINING_JOB, "job", arn, body, {"request": wanted, "cpus": None, **(private or {})}
    )
    folder = shop.context.home.job("training-job", "job")
    for name in ("algo-1/checkpoints/epoch", "algo-1/model/model.json", "pulse"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
        seconds = then.timestamp() + 10 * len(statuses) + (5 if name == "pulse" else 2)
        os.utime(folder / name, (seconds, seconds))


def test_a_job_of_a_killed_server_starts_again_with_its_checkpoints(open_shop: Opener) -> None:
    seen: list[str] = []

    def work(spec: ContainerSpec, say: Say, told: threading.Event) -> int:
        seen.append((spec.base / "checkpoints" / "epoch").read_text())
        seen.append(str((spec.base / "model" / "model.json").exists()))
        return good(spec, say, told)

    shop = open_shop(work)
    leave_behind(shop, "Pending", "Downloading", "Training")
    shop.jobs.recover()
    body = shop.wait()
    assert body["TrainingJobStatus"] == "Completed"
    assert seen == ["1", "False"]
    assert shop.statuses() == [
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
    (interruption,) = shop.record().private["interruptions"]
    assert interruption["cause"] == "crash"
    assert interruption["seconds_trained"] == pytest.approx(5.0, abs=0.01)
    assert interruption["seconds_lost"] == pytest.approx(3.0, abs=0.01)
    assert body["SecondaryStatusTransitions"][4]["StatusMessage"].startswith(
        "The local SageMaker was killed after "
    )


@pytest.mark.parametrize(
    ("statuses", "epoch"), [(("Pending", "Downloading"), "7"), (("Downloading", "Training"), "1")]
)
def test_a_restore_that_was_cut_short_is_done_again_but_none_follows_the_training(
    statuses: tuple[str, ...], epoch: str, open_shop: Opener
) -> None:
    seen: list[str] = []

    def work(spec: ContainerSpec, _say: Say, _told: threading.Event) -> int:
        seen.append((spec.base / "checkpoints" / "epoch").read_text())
        return 0

    shop = open_shop(work)
    shop.objects.add("saved/epoch", "7")
    leave_behind(shop, *statuses, CheckpointConfig={"S3Uri": "s3://bucket/saved"})
    shop.jobs.recover()
    shop.wait()
    assert seen == [epoch]


def test_what_was_said_when_nobody_listened_is_logged_and_measured_once(
    open_shop: Opener,
) -> None:
    shop = open_shop(lambda *_: 0)
    leave_behind(shop, "Pending", "Downloading", "Training")
    heard = ["toy: begins", "toy:score=0.5;"]
    with_one_lost = [*heard, "toy:score=0.7;", "toy: begins"]
    stream = shop.logs.open("/aws/sagemaker/TrainingJobs", "job/algo-1-1")
    for line in heard:
        stream.write(line)
    said = shop.context.home.job("training-job", "job") / "algo-1.said"
    said.write_text("".join(f"{line}\n" for line in with_one_lost))
    shop.jobs.recover()
    body = shop.wait()
    assert sorted(shop.logs.lines()) == sorted(with_one_lost)
    assert [each["Value"] for each in body["FinalMetricDataList"]] == [pytest.approx(0.7)]
    assert [each.value for each in shop.jobs.metrics("job")] == [0.7]
    assert ("score", 0.7) in shop.logs.points
    assert not said.exists()


def test_time_without_a_machine_is_not_billed(open_shop: Opener) -> None:
    shop = open_shop(good)
    leave_behind(shop, "Pending", "Downloading", "Training", "Interrupted")
    shop.jobs.recover()
    body = shop.wait()
    assert body["TrainingTimeInSeconds"] in range(80, 85)
    assert body["BillableTimeInSeconds"] in range(20, 25)


@pytest.mark.parametrize("statuses", [(), ("Pending",), ("Pending", "Downloading")])
def test_a_job_that_had_not_begun_just_begins(statuses: tuple[str, ...], open_shop: Opener) -> None:
    shop = open_shop(good)
    leave_behind(shop, *statuses)
    shop.jobs.recover()
    assert shop.wait()["TrainingJobStatus"] == "Completed"
    assert "Interrupted" not in shop.statuses()


def test_an_upload_that_was_cut_short_is_done_again(open_shop: Opener) -> None:
    shop = open_shop(lambda *_: pytest.fail("it had ended"))
    ending = {"status": "Completed", "secondary": "Completed", "reason": None}
    leave_behind(
        shop, "Pending", "Downloading", "Training", "Uploading", private={"ending": ending}
    )
    shop.jobs.recover()
    assert shop.wait()["TrainingJobStatus"] == "Completed"
    assert shop.objects.names() == ["out/job/output/model.tar.gz"]
    assert engine(shop).specs == []


def test_a_job_that_was_being_stopped_is_stopped(open_shop: Opener) -> None:
    shop = open_shop(good)
    leave_behind(shop, "Pending", "Downloading", "Training", "Stopping")
    shop.jobs.recover()
    assert shop.wait()["TrainingJobStatus"] == "Stopped"
    assert shop.objects.names() == ["out/job/output/model.tar.gz"]


def test_a_job_whose_folder_is_gone_says_so(open_shop: Opener) -> None:
    import shutil

    shop = open_shop(good)
    leave_behind(shop, "Pending", "Downloading", "Training")
    shutil.rmtree(shop.context.home.job("training-job", "job"))
    shop.jobs.recover()
    body = shop.wait()
    assert body["TrainingJobStatus"] == "Failed"
    assert "its folder" in body["FailureReason"]
    assert body["FailureReason"].endswith("is gone")


def test_a_job_that_was_killed_before_it_had_a_folder_just_begins(open_shop: Opener) -> None:
    import shutil

    shop = open_shop(good)
    leave_behind(shop)
    shutil.rmtree(shop.context.home.job("training-job", "job"))
    shop.jobs.recover()
    assert shop.wait()["TrainingJobStatus"] == "Completed"


def test_a_job_of_more_hosts_than_the_executor_runs_now_says_so(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(good)
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    leave_behind(shop, "Pending", "Downloading", "Training", ResourceConfig=resources)
    monkeypatch.setattr(engine(shop), "max_hosts", 1)
    shop.jobs.recover()
    body = shop.wait()
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"].startswith("ClientError: the job's 2 hosts cannot be started")
    assert "--executor docker" in body["FailureReason"]
    assert engine(shop).specs == []


def test_a_job_whose_image_is_gone_says_so(
    open_shop: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(good)
    leave_behind(shop, "Pending", "Downloading", "Training")

    def missing(*_: object) -> None:
        raise ImageMissing("there is no image toy:latest")

    monkeypatch.setattr(engine(shop), "check_image", missing)
    shop.jobs.recover()
    assert "there is no image toy:latest" in shop.wait()["FailureReason"]


def test_ended_jobs_are_left_alone(open_shop: Opener) -> None:
    shop = open_shop(good)
    before = shop.run()
    shop.jobs.recover()
    assert shop.body() == before
    assert not shop.jobs.running("job")


def test_a_job_created_before_the_recovery_runs_once(open_shop: Opener) -> None:
    shop = open_shop(until_told)
    start(shop)
    shop.jobs.recover()
    shop.jobs.stop("job")
    shop.wait()
    assert len(engine(shop).specs) == 1


def test_a_server_that_goes_down_twice_keeps_waiting_jobs(open_shop: Opener) -> None:
    shop = open_shop(until_told, max_parallel=1)
    start(shop)
    shop.jobs.create(request("second"))
    shop.wait("second", until=lambda body: body["SecondaryStatus"] == "Pending")
    shop.jobs.shutdown()
    assert shop.body()["SecondaryStatus"] == "Interrupted"
    assert shop.body("second")["SecondaryStatus"] == "Pending"
    assert nothing_left(shop)
    engine(shop).work = good
    again = shop.restart()
    assert again.wait("second")["TrainingJobStatus"] == "Completed"
    assert again.wait()["TrainingJobStatus"] == "Completed"
    again.context.store.close()


def test_what_the_regex_does_wrong_is_in_the_jobs_own_log(open_shop: Opener) -> None:
    def work(_spec: ContainerSpec, say: Say, _told: threading.Event) -> int:
        say("x" * 60 + " y")
        return 0

    shop = open_shop(work)
    algorithm = {
        **request()["AlgorithmSpecification"],
        "MetricDefinitions": [{"Name": "bad", "Regex": "(?:x|xx)+y([0-9])"}],
    }
    assert shop.run(AlgorithmSpecification=algorithm)["TrainingJobStatus"] == "Completed"
    assert "berth: metric bad: its regular expression took over" in shop.logs.lines()[1]


def test_a_metric_that_matched_nothing_is_named_in_the_log(
    tmp_path: Path, opened: list[Workshop]
) -> None:
    shop = build(tmp_path, Pretender(good))
    opened.append(shop)
    definitions = [
        {"Name": "score", "Regex": "toy:score=([0-9.]+);"},
        {"Name": "f1", "Regex": "f1=([0-9.]+)"},
    ]
    body = shop.run(
        AlgorithmSpecification={
            "TrainingImage": "toy:latest",
            "TrainingInputMode": "File",
            "MetricDefinitions": definitions,
        }
    )
    assert body["TrainingJobStatus"] == "Completed"
    said = [line for line in shop.logs.lines() if line.startswith("berth: ")]
    assert len(said) == 1
    assert "f1 (f1=([0-9.]+))" in said[0]
    assert "score" not in said[0]

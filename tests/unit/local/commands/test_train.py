import io
import json
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.client.target import Target
from local.commands import train as subject
from local.commands.train import outcome, summary
from local.errors import UserError
from tests.unit.local.command_runner import Commands

EVALUATION = {
    "split": "test",
    "images": 40,
    "accuracy": 0.925,
    "top5": 1.0,
    "best_epoch": 2,
    "classes": {"cat": {"precision": 1.0, "recall": 0.9, "f1": 0.95, "support": 20}},
}


@pytest.fixture
def berth(moto_target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    s3 = moto_target.client("s3")
    for key in ("pets/train/cat/1", "pets/train/dog/1", "pets/validation/cat/1"):
        s3.put_object(Bucket="bucket", Key=key, Body=b"x")
    return Commands(moto_target, monkeypatch)


def leave(target: Target, job: str, evaluation: Any = EVALUATION) -> None:
    """Write a job's output to S3."""
    content = json.dumps(evaluation).encode()
    entry = tarfile.TarInfo("data/evaluation.json")
    entry.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(entry, io.BytesIO(content))
    s3, folder = target.client("s3"), f"jobs/{job}/output"
    s3.put_object(Bucket="bucket", Key=f"{folder}/output.tar.gz", Body=packed.getvalue())
    s3.put_object(Bucket="bucket", Key=f"{folder}/model.tar.gz", Body=b"a model")


def test_a_job_is_created_followed_and_downloaded(berth: Commands, tmp_path: Path) -> None:
    leave(berth.target, "first")
    done = berth.run(
        *("train", "s3://bucket/pets", "--name", "first", "-p", "epochs=3", "-p", "lr=0.01"),
        *("--spot", "--max-wait", "200000", "--instance-type", "ml.m5.large", "--quiet"),
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == "first\n"
    assert "accuracy   0.9250 on 40 test images" in done.output
    job = berth.target.client("sagemaker").describe_training_job(TrainingJobName="first")
    assert job["HyperParameters"] == {"epochs": "3", "lr": "0.01"}
    assert job["EnableManagedSpotTraining"] is True
    assert job["CheckpointConfig"]["S3Uri"] == "s3://bucket/checkpoints/first"
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in job["InputDataConfig"]
    }
    assert channels == {
        "train": "s3://bucket/pets/train/",
        "validation": "s3://bucket/pets/validation/",
    }
    assert (tmp_path / "first/model.tar.gz").read_bytes() == b"a model"
    assert (tmp_path / "first/output/data/evaluation.json").exists()


def test_nothing_is_sent_for_a_typo(berth: Commands) -> None:
    done = berth.run("train", "s3://bucket/pets", "-p", "epoch=3")
    assert isinstance(done.exception, UserError)
    assert "did you mean 'epochs'?" in str(done.exception)
    client = berth.target.client("sagemaker")
    assert client.list_training_jobs()["TrainingJobSummaries"] == []


def test_a_plan_prints_the_request_and_sends_nothing(berth: Commands) -> None:
    berth.target = replace(berth.target, plan=True)
    done = berth.run("train", "s3://bucket/pets", "--name", "first", "--plan")
    assert done.exit_code == 0, done.output
    assert '"TrainingJobName": "first"' in done.output
    client = berth.target.client("sagemaker")
    assert client.list_training_jobs()["TrainingJobSummaries"] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train"], "data: found none"),
        (["train", "s3://bucket/pets", "--name", "a_b"], "--name: found 'a_b'"),
        (["train", "s3://bucket/pets", "--checkpoints", "/tmp"], "--checkpoints: found '/tmp'"),
        (["train", "s3://bucket/pets", "--hp", "x"], "--hp: found 'x', expected name=value"),
        (
            ["train", "s3://bucket/pets", "--where", "aws", "--spot", "--interrupt-after", "5"],
            "--interrupt-after: only supported with --where local",
        ),
        (["train", "s3://bucket/pets", "--hyperparameters", "none.json"], "no such file"),
    ],
)
def test_invalid_input_is_one_line(berth: Commands, words: list[str], line: str) -> None:
    done = berth.run(*words)
    assert isinstance(done.exception, UserError)
    assert line in str(done.exception)


def test_given_values_take_precedence_over_those_of_a_file(berth: Commands, tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text('{"hyperparameters": {"epochs": "9", "seed": "1"}}')
    done = berth.run(
        *("train", "s3://bucket/pets", "--name", "first", "--hyperparameters", "best.json"),
        *("-p", "epochs=3", "--no-wait", "--weights-from", "s3://bucket/w/", "--env", "A=1"),
    )
    assert done.exit_code == 0, done.output
    job = berth.target.client("sagemaker").describe_training_job(TrainingJobName="first")
    assert job["HyperParameters"] == {"epochs": "3", "seed": "1"}
    assert [each["ChannelName"] for each in job["InputDataConfig"]][-1] == "weights"


def test_the_best_values_of_a_tuning_job_are_used(
    berth: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = {"arch": "resnet34", "learning_rate": "0.01"}
    monkeypatch.setattr(subject, "_best", lambda _target, name: best if name == "search" else {})
    done = berth.run(
        *("train", "s3://bucket/pets", "--name", "first", "--from-tuning", "search"),
        *("-p", "learning_rate=0.1", "--no-wait"),
    )
    assert done.exit_code == 0, done.output
    job = berth.target.client("sagemaker").describe_training_job(TrainingJobName="first")
    assert job["HyperParameters"] == {"arch": "resnet34", "learning_rate": "0.1"}


def test_a_failed_job_shows_its_reason(berth: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = {
        "TrainingJobName": "first",
        "TrainingJobStatus": "Failed",
        "SecondaryStatus": "Failed",
        "FailureReason": "AlgorithmError: no\nimages",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs"},
    }
    monkeypatch.setattr(subject, "follow_training", lambda *_given, **_settings: ended)
    logs = berth.target.client("logs")
    logs.create_log_group(logGroupName="/aws/sagemaker/TrainingJobs")
    stream = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamName": "first/algo-1-17"}
    logs.create_log_stream(**stream)
    now = int(time.time() * 1000)
    events = [{"timestamp": now + n, "message": f"line {n}"} for n in range(30)]
    logs.put_log_events(**stream, logEvents=events)
    done = berth.run("train", "s3://bucket/pets", "--name", "first", "--quiet")
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "first: Failed: AlgorithmError: no images"
    shown = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("line")]
    assert shown == [f"line {n}" for n in range(15, 30)]


def test_ctrl_c_does_not_stop_the_job(berth: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_given: object, **_settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subject, "follow_training", interrupted)
    done = berth.run("train", "s3://bucket/pets", "--name", "first")
    assert done.exit_code == 130
    assert "berth logs -f first" in done.stderr
    assert "berth stop first" in done.stderr


def test_the_outcome_is_one_line() -> None:
    assert outcome({"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}) == "Stopped"
    late = {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}
    assert outcome(late) == "Stopped (MaxRuntimeExceeded)"


def test_the_summary_shows_the_findings_of_rules_and_the_report(tmp_path: Path) -> None:
    data = tmp_path / "output" / "data"
    (data / "rules").mkdir(parents=True)
    found = {"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound"}
    fine = {"RuleConfigurationName": "DeadRelu", "RuleEvaluationStatus": "NoIssuesFound"}
    statuses = json.dumps([found | {"StatusDetails": "fired at step 4"}, fine])
    (data / "rules/debug.json").write_text(statuses)
    (data / "report").mkdir()
    page = data / "report/profiler-report.html"
    page.write_text("<html>")
    assert summary({"DebugRuleEvaluationStatuses": [found]}, tmp_path, []) == [
        "rule       Overfit: no details"
    ]
    lines = summary({}, tmp_path, [tmp_path / "output"])
    assert lines[:2] == ["rule       Overfit: fired at step 4", f"report     {page}"]
    verdict = {"verdict": {"sentences": ["89 % of the step is forward."]}}
    (data / "report/report.json").write_text(json.dumps(verdict))
    lines = summary({}, tmp_path, [tmp_path / "output"])
    assert lines[1:3] == ["verdict    89 % of the step is forward.", f"report     {page}"]


@pytest.mark.parametrize("written", ["{}", "[]", "{", '{"accuracy": "high"}', "\xff"])
def test_the_summary_accepts_the_output_of_other_images(tmp_path: Path, written: str) -> None:
    left = tmp_path / "output" / "data" / "evaluation.json"
    left.parent.mkdir(parents=True)
    left.write_bytes(written.encode("latin-1"))
    lines = summary({"TrainingTimeInSeconds": 3}, tmp_path, [tmp_path / "output"])
    assert lines[0].startswith("accuracy   unknown: ")
    assert "evaluation.json: " in lines[0]
    assert lines[1:] == ["time       3 s, billed 3 s", f"downloaded {tmp_path / 'output'}"]


def test_the_summary_shows_interruptions(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    job = {
        "FinalMetricDataList": [{"MetricName": "validation:accuracy", "Value": 0.91234}],
        "TrainingTimeInSeconds": 100,
        "BillableTimeInSeconds": 40,
        "SecondaryStatusTransitions": [
            {
                "Status": "Interrupted",
                "StartTime": datetime(2026, 1, 2, tzinfo=UTC),
                "StatusMessage": "7 s lost",
            }
        ],
    }
    lines = summary(job, tmp_path, [])
    assert lines[0] == "metrics    validation:accuracy 0.9123"
    assert lines[1] == "interrupted once"
    assert lines[2].endswith("Interrupted: 7 s lost")
    assert lines[3] == "time       100 s, billed 40 s"

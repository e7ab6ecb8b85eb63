import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.client.target import Target
from local.errors import UserError
from tests.unit.local.command_runner import Commands
from tests.unit.local.trained_job import FIT


@pytest.fixture
def berth(moto_target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    for split, name in (("train", "cat"), ("train", "dog"), ("val", "cat")):
        folder = tmp_path / "pets" / split / name
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(f"{split} {name}".encode())
    return Commands(moto_target, monkeypatch)


def channels(job: Any) -> dict[str, str]:
    return {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in job["InputDataConfig"]
    }


def sent(berth: Commands, name: str) -> Any:
    return berth.target.client("sagemaker").describe_training_job(TrainingJobName=name)


def test_a_folder_is_uploaded_and_one_job_is_sent(berth: Commands) -> None:
    done = berth.run(
        "fit", "pets", "--where", "aws", "--minutes", "12.5", "--name", "first", "--no-wait"
    )
    assert done.exit_code == 0, done.output
    job = sent(berth, "first")
    assert job["HyperParameters"] == {"fit_minutes": "12.5"}
    assert job["StoppingCondition"]["MaxRuntimeInSeconds"] == 750 + 600
    assert channels(job) == {
        "train": "s3://bucket/data/pets/train/",
        "validation": "s3://bucket/data/pets/val/",
    }
    listed = berth.target.client("s3").list_objects_v2(Bucket="bucket", Prefix="data/pets/")
    assert sorted(each["Key"] for each in listed["Contents"]) == [
        "data/pets/train/cat/1.jpg",
        "data/pets/train/dog/1.jpg",
        "data/pets/val/cat/1.jpg",
    ]


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["--minutes", "3000"], 3000 * 60 + 600),
        (["--minutes", "40310"], 28 * 86400),
        (["--minutes", "5", "--max-run", "400"], 400),
    ],
)
def test_on_aws_the_runtime_limit_covers_the_minutes(
    berth: Commands, words: list[str], seconds: int
) -> None:
    done = berth.run("fit", "pets", "--where", "aws", "--name", "first", "--no-wait", *words)
    assert done.exit_code == 0, done.output
    assert sent(berth, "first")["StoppingCondition"]["MaxRuntimeInSeconds"] == seconds


def test_an_s3_prefix_is_used_without_an_upload(berth: Commands) -> None:
    berth.target.client("s3").put_object(Bucket="bucket", Key="x/train/cat/1", Body=b"x")
    done = berth.run("fit", "s3://bucket/x", "--name", "first", "--no-wait", "-p", "seed=3")
    assert done.exit_code == 0, done.output
    job = sent(berth, "first")
    assert job["HyperParameters"] == {"fit_minutes": "30", "seed": "3"}
    assert channels(job)["train"] == "s3://bucket/x/train/"


def test_the_summary_shows_the_choices_and_the_path_of_the_model(berth: Commands) -> None:
    content = json.dumps(FIT).encode()
    entry = tarfile.TarInfo("data/fit.json")
    entry.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(entry, io.BytesIO(content))
    s3 = berth.target.client("s3")
    s3.put_object(Bucket="bucket", Key="x/train/cat/1", Body=b"x")
    s3.put_object(Bucket="bucket", Key="jobs/first/output/output.tar.gz", Body=packed.getvalue())
    done = berth.run("fit", "s3://bucket/x", "--name", "first", "--quiet")
    assert done.exit_code == 0, done.output
    assert "probe resnet18 at 224 px, after 4.5 of 5 minutes" in done.output
    assert "next: twice the photographs" in done.output
    assert "s3://bucket/jobs/first/output/model.tar.gz" in done.output
    assert "berth report first" in done.output


def test_a_plan_shows_upload_and_job_and_sends_nothing(berth: Commands) -> None:
    berth.target = replace(berth.target, plan=True)
    done = berth.run("fit", "pets", "--where", "aws", "--name", "first", "--plan")
    assert done.exit_code == 0, done.output
    assert '"fit_minutes": "30"' in done.output
    assert "data/pets/*" in done.output
    client = berth.target.client("sagemaker")
    assert client.list_training_jobs()["TrainingJobSummaries"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pets", "-p", "fit_minutes=3"], "expected --minutes"),
        (["pets", "-p", "epochs=3"], "found with fit_minutes, expected it left out"),
        (["pets", "--hyperparameters", "given.json"], "found in given.json, expected --minutes"),
        (["nowhere"], "nowhere"),
        (["pets", "--minutes", "0"], "--minutes: found 0, expected 0.1 to"),
        (["pets", "--minutes", "-3"], "--minutes: found -3"),
        (["pets", "--minutes", "nan"], "--minutes: found nan"),
        (["pets", "--minutes", "inf"], "--minutes: found inf"),
        (["pets", "--minutes", "40311"], "--minutes: found 40311"),
        (["pets", "--max-run", "600"], "--max-run: found 600 seconds, expected at least"),
        (["pets", "--instance-count", "2"], "--instance-count: found 2, expected 1"),
    ],
)
def test_invalid_options_are_one_line(berth: Commands, words: list[str], said: str) -> None:
    Path("given.json").write_text('{"fit-minutes": 5}')
    done = berth.run("fit", *words)
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
    client = berth.target.client("sagemaker")
    assert client.list_training_jobs()["TrainingJobSummaries"] == []

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cli import main
from local.client.target import Target
from local.client.upload import Files, scan_folder
from local.commands.transform import images_only, safe
from local.errors import UserError


def body(label: str) -> bytes:
    top = [{"label": label, "probability": 0.9}, {"label": "other", "probability": 0.1}]
    return json.dumps({"predictions": [top[0] | {"top": top}]}).encode()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ants/1.jpg", "bees/2.jpg", "bees/notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.fixture
def answered(moto_target: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Write the output of the job, as moto ends a job at once without any output."""
    s3 = moto_target.client("s3")
    for name, label in (("ants/1.jpg", "ants"), ("bees/2.jpg", "ants")):
        key = f"transform/all/output/{name}.out"
        s3.put_object(Bucket="bucket", Key=key, Body=body(label))
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: moto_target)
    return moto_target


MODEL = ["--model-data", "s3://bucket/model.tar.gz", "--name", "all"]


def test_a_folder_is_uploaded_and_its_predictions_are_downloaded(
    answered: Target, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transform", str(photos), *MODEL, "--json"]) == 0, capsys.readouterr()
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [(line["file"], line["truth"], line["label"]) for line in lines] == [
        (str(photos / "ants/1.jpg"), "ants", "ants"),
        (str(photos / "bees/2.jpg"), "bees", "ants"),
    ]
    assert "accuracy 0.5000" in shown.err
    assert Path("all/bees/2.jpg.out").read_bytes() == body("ants")
    listed = answered.client("s3").list_objects_v2(Bucket="bucket", Prefix="transform/all/input/")
    assert [entry["Key"].rpartition("input/")[2] for entry in listed["Contents"]] == [
        "ants/1.jpg",
        "bees/2.jpg",
    ]
    sagemaker = answered.client("sagemaker")
    job = sagemaker.describe_transform_job(TransformJobName="all")
    source = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    assert source == "s3://bucket/transform/all/input/"
    assert sagemaker.list_models()["Models"] == []  # the model created for the job is deleted


def test_an_invalid_output_affects_only_its_image(
    answered: Target, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "transform/all/output/bees/2.jpg.out"
    answered.client("s3").put_object(Bucket="bucket", Key=key, Body=b"oops")
    arguments = ["s3://bucket/photos/", *MODEL, "--to", "here"]
    assert main(["transform", *arguments]) == 1
    shown = capsys.readouterr()
    assert "'oops'" in shown.out
    assert "1 of 2 images have no prediction" in shown.err
    assert Path("here/ants/1.jpg.out").exists()


GROUP = "/aws/sagemaker/TransformJobs"


def logged(target: Target, *lines: str) -> None:
    import time

    logs = target.client("logs")
    stream = {"logGroupName": GROUP, "logStreamName": "all/i-1"}
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(**stream)
    now = int(time.time() * 1000)
    events = [{"timestamp": now, "message": line} for line in lines]
    logs.put_log_events(**stream, logEvents=events)


@pytest.fixture
def failed(answered: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    def ended(*_: Any) -> Iterator[tuple[dict[str, Any], float]]:
        yield {"TransformJobStatus": "Failed", "FailureReason": "AlgorithmError"}, 0.0

    monkeypatch.setattr("local.commands.transform.poll", ended)
    return answered


def test_a_failed_job_shows_the_last_log_lines(
    failed: Target, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged(failed, "out of memory")
    for name in ("ants/1.jpg", "bees/2.jpg"):
        failed.client("s3").delete_object(Bucket="bucket", Key=f"transform/all/output/{name}.out")
    assert main(["transform", str(photos), *MODEL]) == 1
    shown = capsys.readouterr().err
    assert "  out of memory" in shown
    assert "transform job all: Failed: AlgorithmError" in shown
    assert failed.client("sagemaker").list_models()["Models"] == []


@pytest.mark.parametrize("source", ["folder", "s3://bucket/photos", "s3://bucket/photos/"])
def test_outputs_of_a_failed_job_are_downloaded_and_the_bad_image_is_named(
    failed: Target, photos: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    s3 = failed.client("s3")
    s3.delete_object(Bucket="bucket", Key="transform/all/output/bees/2.jpg.out")
    for name in ("ants/1.jpg", "bees/2.jpg"):
        s3.put_object(Bucket="bucket", Key=f"photos/{name}", Body=b"x")
    logged(
        failed,
        "a line of the container's: bees/2.jpg: is no answer",
        "2026-01-02T03:04:05.678:[sagemaker logs]: MaxConcurrentTransforms=2",
        "2026-01-02T03:04:05.679:[sagemaker logs]: bucket/photos/bees/2.jpg: ClientError: 415",
    )
    given = str(photos) if source == "folder" else source
    assert main(["transform", given, *MODEL, "--json"]) == 1
    shown = capsys.readouterr()
    good, bad = [json.loads(line) for line in shown.out.splitlines()]
    assert good["label"] == "ants"
    assert (bad["truth"], bad["error"]) == ("bees", "ClientError: 415")
    assert Path("all/ants/1.jpg.out").read_bytes() == body("ants")
    assert "1 of 2 images have no prediction" in shown.err
    assert "s3://bucket/transform/all/output" in shown.err
    assert "transform job all: Failed: AlgorithmError" in shown.err


def test_a_plan_sends_nothing(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    role = "arn:aws:iam::123456789012:role/berth"
    aws = ["--where", "aws", "--role", role, "--region", "us-east-1", "--plan"]
    assert main(["transform", str(photos), *MODEL, *aws]) == 0
    shown = capsys.readouterr().out
    for operation in ("PutObject", "CreateModel", "CreateTransformJob"):
        assert f"\n{operation}\n{{" in shown
    assert "0.115 USD an hour" in shown
    assert main(["transform", "s3://b/p/", "--model", "m", "--job", "j", *aws]) == 1
    assert "--model: found --job" in capsys.readouterr().err
    assert main(["transform", "s3:///p", *MODEL, *aws]) == 1
    assert "images: found 's3:///p', expected s3://bucket/prefix" in capsys.readouterr().err


def test_only_images_are_sent(photos: Path) -> None:
    assert set(images_only(scan_folder(photos)).paths) == {"ants/1.jpg", "bees/2.jpg"}
    notes = Files(photos, {"notes.txt": photos / "bees" / "notes.txt"})
    with pytest.raises(UserError, match="no images found"):
        images_only(notes)


@pytest.mark.parametrize("name", ["../x.out", "/etc/x.out", "a/../../x.out", ""])
def test_outputs_outside_the_download_folder_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="outside the download folder"):
        safe(name)

"""`berth data upload`, `deploy`, `invoke`, `transform` and `push`, against the local SageMaker."""

import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.cli import main
from local.client.target import Target
from local.emulator.credentials import credentials
from local.emulator.executors.process import Commands, ProcessExecutor
from local.emulator.home import Home
from local.emulator.server import Server

ROLE = "arn:aws:iam::123456789012:role/berth"

Berth = Callable[..., int]


@pytest.fixture(scope="module")
def target(
    tmp_path_factory: pytest.TempPathFactory, toy_uri: str, toy_commands: Commands
) -> Iterator[Target]:
    """A local SageMaker that runs the toy image."""
    home = Home.find(tmp_path_factory.mktemp("home"))
    with Server(home, port=0, executor=ProcessExecutor(home, toy_commands)) as server:
        target = Target(
            "local",
            server.url,
            "us-east-1",
            "123456789012",
            ROLE,
            "bucket",
            toy_uri,
            credentials=credentials(home),
        )
        target.ensure_bucket()
        yield target


@pytest.fixture
def berth(target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Berth:
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: target)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def models(target: Target) -> dict[str, str]:
    """S3 URIs of a model that can be served and of one that cannot."""
    uris = {}
    for name, files in {"good": ["model.json"], "bad": ["model.json", "broken"]}.items():
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for file in files:
                member = tarfile.TarInfo(file)
                member.size = 2
                archive.addfile(member, io.BytesIO(b"{}"))
        key = f"{name}/model.tar.gz"
        target.client("s3").put_object(Bucket="bucket", Key=key, Body=data.getvalue())
        uris[name] = f"s3://bucket/{key}"
    return uris


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Files with a response as content: the toy image returns what it is sent."""
    for name in ("ants", "bees"):
        top = [{"label": name, "probability": 0.9}, {"label": "other", "probability": 0.1}]
        path = tmp_path / "photos" / name / "1.jpg"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"predictions": [top[0] | {"top": top}]}))
    return tmp_path / "photos"


def names(target: Target) -> set[str]:
    """The names of all endpoints, endpoint configurations and models."""
    sagemaker = target.client("sagemaker")
    return {
        *(one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]),
        *(
            one["EndpointConfigName"]
            for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ),
        *(one["ModelName"] for one in sagemaker.list_models()["Models"]),
    }


def test_a_model_is_deployed_invoked_updated_and_deleted(
    berth: Berth,
    target: Target,
    models: dict[str, str],
    photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert berth("deploy", "flowers", "--model-data", models["good"]) == 0
    assert "endpoint flowers is in service" in capsys.readouterr().out
    assert berth("invoke", "flowers", photos, "--json") == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["label"] for line in shown.out.splitlines()] == ["ants", "bees"]
    assert "accuracy 1.0000: 2 of 2" in shown.err

    (photos / "bees" / "2.jpg").write_text("status 418")
    assert berth("invoke", "flowers", photos) == 1
    assert "HTTP 418: toy: as asked" in capsys.readouterr().out

    served = target.client("sagemaker").describe_endpoint(EndpointName="flowers")
    assert berth("deploy", "flowers", "--model-data", models["bad"], "--update") == 1
    shown = capsys.readouterr()
    assert "  toy: the model cannot be loaded: it is broken\n" in shown.out
    assert "GET /ping" not in shown.out  # logged by the container that still serves
    assert "update failed" in shown.err
    after = target.client("sagemaker").describe_endpoint(EndpointName="flowers")
    assert after["EndpointConfigName"] == served["EndpointConfigName"]
    assert berth("delete", "flowers", "--yes") == 0
    assert names(target) == set()


def test_a_failed_endpoint_reports_the_reason_and_is_deleted(
    berth: Berth, target: Target, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert berth("deploy", "broken", "--model-data", models["bad"]) == 1
    shown = capsys.readouterr()
    assert "the end of the container's log:\n  toy: the model cannot be loaded" in shown.out
    assert "endpoint broken: failed: " in shown.err
    wait_until(lambda: names(target) == set())


def test_the_time_to_live_is_tagged_on_the_endpoint(
    berth: Berth, target: Target, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert berth("deploy", "brief", "--model-data", models["good"], "--ttl", "2h") == 0
    assert "the local SageMaker will delete it" in capsys.readouterr().out
    arn = target.client("sagemaker").describe_endpoint(EndpointName="brief")["EndpointArn"]
    tags = target.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    assert {"Key": "berth:ttl", "Value": "7200"} in tags
    assert berth("delete", "brief", "--yes") == 0


def test_a_folder_is_transformed(
    berth: Berth, target: Target, models: dict[str, str], photos: Path
) -> None:
    model = ["--model-data", models["good"]]
    assert berth("transform", photos, *model, "--name", "all", "--to", "answers") == 0
    answer = Path("answers/ants/1.jpg.out").read_bytes()
    assert answer == (photos / "ants" / "1.jpg").read_bytes()
    assert names(target) == set()


def test_a_second_upload_sends_no_files(
    berth: Berth, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sent in (2, 0):
        assert berth("data", "upload", photos, "--no-lint") == 0
        shown = capsys.readouterr()
        assert shown.out == "s3://bucket/data/photos/\n"
        assert f"{sent} files uploaded" in shown.err


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to pass within a minute")

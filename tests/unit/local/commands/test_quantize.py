from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from local.cli import main
from local.client.target import Target
from local.commands import quantize

AWS = ["--where", "aws", "--region", "us-east-1"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the arguments of the container's command: the model's bytes and the others."""
    given: list[Any] = []

    def run(_module: str, arguments: Sequence[str], _needed: Sequence[str]) -> int:
        model = Path(arguments[0])
        given.append((model.read_bytes() if model.is_file() else model.name, arguments[1:]))
        return 1

    monkeypatch.setattr(quantize, "run_module", run)
    return given


def test_a_local_model_needs_no_sagemaker(ran: list[Any], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert main(["quantize", str(tmp_path / "model"), "photos", "--tolerance", "1"]) == 1
    options = ["photos", "--output", "model-int8.tar.gz", "--tolerance", "1"]
    assert ran == [("model", options)]


def test_an_archive_in_s3_is_downloaded_first(moto_aws: Target, ran: list[Any]) -> None:
    s3 = moto_aws.client("s3")
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="a/model.tar.gz", Body=b"archive")
    given = ["s3://models/a/model.tar.gz", "photos", "--output", "fast.tar.gz"]
    assert main(["quantize", *given, *AWS]) == 1
    assert ran == [(b"archive", ["photos", "--output", "fast.tar.gz", "--tolerance", "0.5"])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s3://models/none.tar.gz"], "s3://models/none.tar.gz: no such object"),
        (["no-such-job"], "no such training job: no-such-job"),
        (["no-such-job", "--plan"], "--plan: "),
    ],
)
def test_a_missing_model_is_named(
    moto_aws: Target,
    ran: list[Any],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    moto_aws.client("s3").create_bucket(Bucket="models")
    name, *options = arguments
    assert main(["quantize", name, "photos", *options, *AWS]) == 1
    assert said in capsys.readouterr().err
    assert ran == []

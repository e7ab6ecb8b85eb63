import json
import os
from pathlib import Path

import pytest
from PIL import Image

from local.cli import main
from local.client.target import Target
from local.commands.data import normalize_prefix


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        for number, name in enumerate(("ants", "bees")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            colour = (number * 90, 40, 200 if split == "train" else 10)
            Image.new("RGB", (16, 16), colour).save(folder / "1.png")
    return tmp_path / "photos"


def test_fetch_writes_a_data_set_with_its_own_options(
    tmp_path: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "copy"
    arguments = ["fetch", "folder", str(dest), "--from", str(photos), "--seed", "3"]
    assert main(["data", *arguments]) == 0
    assert (dest / "train" / "ants" / "1.png").is_file()
    assert "2 images, 2 classes" in capfd.readouterr().out


def test_fetch_reports_errors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "folder", str(tmp_path / "x"), "--from", "/no"]) == 1
    assert capfd.readouterr().err.startswith("error: /no")


def test_import_creates_an_image_folder(
    tmp_path: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [f"train/{name}/1.png,{name}" for name in ("ants", "bees")]
    (photos / "labels.csv").write_text("\n".join(["path,label", *rows, "gone.png,ants"]))
    dest = tmp_path / "imported"
    assert main(["data", "import", str(photos / "labels.csv"), str(dest)]) == 1
    shown = capfd.readouterr()
    assert f"{photos}/labels.csv:4: gone.png is not in" in shown.err
    assert "2 images, 2 classes" in shown.out
    assert (dest / "bees" / "1.png").samefile(photos / "train" / "bees" / "1.png")
    assert main(["data", "lint", str(dest)]) == 0


def test_lint_distinguishes_good_and_bad_folders(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "lint", str(photos)]) == 0
    (photos / "train" / "ants" / "bad.png").write_bytes(b"not a picture")
    capfd.readouterr()
    assert main(["data", "lint", str(photos), "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["bad"][0]["path"] == "ants/bad.png"


def test_upload_checks_sends_and_prints_the_uri(
    moto_aws: Target, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["upload", str(photos), "--where", "aws", "--bucket", "bucket"]
    assert main(["data", *arguments]) == 0
    shown = capfd.readouterr()
    assert shown.out == "s3://bucket/data/photos/\n"
    assert "4 files uploaded" in shown.err
    assert main(["data", *arguments, "--no-lint"]) == 0
    assert "0 files uploaded (0 bytes), 4 unchanged" in capfd.readouterr().err


def test_upload_warns_about_files_that_training_would_skip(
    moto_aws: Target, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "train" / "ants" / "bad.png").write_bytes(b"not a picture")
    os.mkfifo(photos / "train" / "ants" / "pipe.png")
    arguments = ["upload", str(photos), "--where", "aws", "--bucket", "bucket"]
    assert main(["data", *arguments, "--strict"]) == 1
    assert "pipe.png" in capfd.readouterr().err
    (photos / "train" / "ants" / "pipe.png").unlink()
    assert main(["data", *arguments, "--strict"]) == 1
    shown = capfd.readouterr()
    assert "bad.png" in shown.err
    assert "bad.png" not in shown.out
    assert "--strict" in shown.err
    s3 = moto_aws.client("s3")
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")
    os.mkfifo(photos / "train" / "ants" / "pipe.png")
    assert main(["data", *arguments]) == 0
    shown = capfd.readouterr()
    assert "bad.png" in shown.err
    assert "bad.png" not in shown.out
    assert "pipe.png" in shown.err
    assert s3.list_objects_v2(Bucket="bucket", Prefix="data/photos/")["KeyCount"] == 5


def test_upload_stops_at_errors_that_training_would_raise(
    moto_aws: Target, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "train" / "Ants").mkdir()
    (photos / "train" / "Ants" / "1.png").write_bytes(b"x")
    arguments = ["upload", str(photos), "--where", "aws", "--bucket", "bucket"]
    assert main(["data", *arguments]) == 1
    shown = capfd.readouterr()
    assert "found class folders 'Ants' and 'ants'" in shown.err
    assert "--no-lint" in shown.err
    s3 = moto_aws.client("s3")
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")
    assert main(["data", *arguments, "--no-lint", "--prefix", "/as/is"]) == 0
    assert s3.list_objects_v2(Bucket="bucket", Prefix="as/is/")["KeyCount"] == 5


def test_a_plan_sends_nothing(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    role = "arn:aws:iam::123456789012:role/berth"
    arguments = ["upload", str(photos), "--where", "aws", "--role", role, "--plan", "--delete"]
    assert main(["data", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "s3:DeleteObject" in shown
    assert "arn:aws:s3:::berth-us-east-1-123456789012/data/photos/*" in shown
    assert "4 files" in shown
    assert "nothing was sent" in shown


def test_prefixes_end_with_one_slash() -> None:
    assert [normalize_prefix(text) for text in ("a", "/a/b/", "", "/")] == ["a/", "a/b/", "", ""]


def test_a_missing_package_is_named(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "local.commands.data.find_spec", lambda name: None if name == "simplejpeg" else name
    )
    assert main(["data", "lint", str(photos)]) == 1
    assert "this command needs simplejpeg: " in capsys.readouterr().err

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from local.client.inputs import find_channels
from local.client.target import Target
from local.errors import UserError

OFFLINE = Target("local", None, "us-east-1", "123456789012", "role", "bucket", "image")

LAYOUTS = {
    "three splits": (
        ["train/cat/1", "validation/cat/1", "test/cat/1", "README"],
        {"train": "train/", "validation": "validation/", "test": "test/"},
    ),
    "other names": (
        ["training/cat/1", "val/cat/1"],
        {"train": "training/", "validation": "val/"},
    ),
    "any case": (
        ["Training/cat/1", "DEV/cat/1", "Testing/cat/1", "__MACOSX/x/1"],
        {"train": "Training/", "validation": "DEV/", "test": "Testing/"},
    ),
    "a folder around them": (
        ["dog images/train/cat/1", "dog images/valid/cat/1", "__MACOSX/x/1", "README"],
        {"train": "dog images/train/", "validation": "dog images/valid/"},
    ),
    "folders around each": (
        ["train/train/cat/1", "test/test/cat/1"],
        {"train": "train/train/", "test": "test/test/"},
    ),
    "classes alone": (["cat/1", "dog/1"], {"train": ""}),
    "a class called train": (["train/1.jpg", "test/1.jpg", "ship/1.jpg"], {"train": ""}),
    "hidden folders": (["train/.thumbs/1", "train/1"], {"train": ""}),
    "shards": (["0.tar", "1.tar", "classes.txt"], {"train": ""}),
    "shards of splits": (
        ["train/0.tar", "val/0.tar", "test/0.tar"],
        {"train": "train/", "validation": "val/", "test": "test/"},
    ),
    "shards of splits in a folder": (
        ["set/train/0.tar", "set/train/1.tar", "set/val/0.tar"],
        {"train": "set/train/", "validation": "set/val/"},
    ),
    "shards beside a folder of something else": (["0.tar", "logs/2026/1"], {"train": ""}),
}


def fill_bucket(target: Target, prefix: str, keys: list[str]) -> None:
    s3 = target.client("s3")
    for key in keys:
        s3.put_object(Bucket=target.bucket, Key=f"{prefix}/{key}", Body=b"x")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_channels_below_a_prefix(moto_target: Target, layout: str) -> None:
    keys, expected = LAYOUTS[layout]
    fill_bucket(moto_target, "data/pets", keys)
    fill_bucket(moto_target, "data/pets2", ["validation/cat/1"])
    found = find_channels(moto_target, "s3://bucket/data/pets")
    assert found == {
        channel: f"s3://bucket/data/pets/{folder}" for channel, folder in expected.items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_channels_in_a_folder(tmp_path: Path, layout: str) -> None:
    keys, expected = LAYOUTS[layout]
    root = tmp_path / "my pets"
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_text("x")
    wanted = {channel: f"{root.as_uri()}/{quote(folder)}" for channel, folder in expected.items()}
    assert find_channels(OFFLINE, str(root)) == wanted
    assert find_channels(OFFLINE, root.as_uri()) == wanted


def test_files_directly_below_a_prefix(
    moto_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_bucket(moto_target, "flat", ["1.jpg", "2.jpg"])
    assert find_channels(moto_target, "s3://bucket/flat") == {"train": "s3://bucket/flat/"}
    fill_bucket(moto_target, "pets", ["train/cat/1", "validation/cat/1", "stray.jpg"])
    assert set(find_channels(moto_target, "s3://bucket/pets")) == {"train", "validation"}
    assert "stray.jpg" in capsys.readouterr().err


def test_two_names_for_one_split(moto_target: Target) -> None:
    fill_bucket(moto_target, "pets", ["train/cat/1", "val/cat/1", "valid/cat/1"])
    with pytest.raises(UserError, match="found both valid and val at s3://bucket/pets/"):
        find_channels(moto_target, "s3://bucket/pets/")


def test_splits_without_classes(moto_target: Target) -> None:
    fill_bucket(moto_target, "pets", ["train/1.jpg", "test/2.jpg"])
    with pytest.raises(UserError, match="data: s3://bucket/pets/: found .* no class folders in"):
        find_channels(moto_target, "s3://bucket/pets/")


def test_files_beside_the_splits_are_reported(
    moto_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_bucket(moto_target, "pets", ["train/cat/1", "old/cat/1", "__pycache__/x", "README"])
    find_channels(moto_target, "s3://bucket/pets/")
    assert capsys.readouterr().err.splitlines() == [
        "data: s3://bucket/pets/: left out (not in a split): old/, README",
        "data: s3://bucket/pets/: left out (left by a tool): __pycache__",
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("s3://bucket/nothing", "nothing found at s3://bucket/nothing/"),
        ("s3://nowhere/x", "no such bucket: nowhere"),
        ("s3://", "expected s3://bucket/prefix"),
        ("https://host/x", "expected s3://bucket/prefix or a folder"),
        ("/no/such/folder", "/no/such/folder: not a folder"),
    ],
)
def test_missing_data(moto_target: Target, data: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        find_channels(moto_target, data)
    assert words in str(refused.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing found at file:///"):
        find_channels(OFFLINE, str(tmp_path))


def test_on_aws_a_local_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="berth data upload"):
        find_channels(replace(OFFLINE, where="aws"), str(tmp_path))


def test_a_plan_without_a_server_takes_the_prefix_as_one_channel() -> None:
    assert find_channels(OFFLINE, "s3://bucket/pets") == {"train": "s3://bucket/pets/"}


def test_a_path_in_the_home_folder_of_a_user_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(UserError, match="~/photos: not a folder, expected"):
        find_channels(OFFLINE, "~/photos")

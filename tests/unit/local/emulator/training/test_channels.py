"""The files of channels, their paths and their hosts."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.emulator.ports import StoredObject
from local.emulator.training.channels import BadChannel, lay_out
from local.emulator.training.opt_ml import Host
from tests.unit.local.emulator.fakes import BUCKET, FakeObjects

HOSTS = [Host(f"algo-{n}", "ml.m5.large", "g") for n in (1, 2, 3)]


@pytest.fixture
def objects(tmp_path: Path) -> FakeObjects:
    return FakeObjects(tmp_path / "s3")


def channel(uri: str, kind: str = "S3Prefix", **source: Any) -> dict[str, Any]:
    return {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri, **source}},
    }


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def laid_out(objects: FakeObjects, given: dict[str, Any], folder: Path, host: int = 0) -> list[str]:
    lay_out(objects, given, HOSTS[host], HOSTS, folder)
    return list(files(folder))


@pytest.mark.parametrize("uri", ["s3://bucket/data/train", "s3://bucket/data/train/"])
def test_files_of_a_prefix_are_placed_below_the_channel(
    uri: str, objects: FakeObjects, tmp_path: Path
) -> None:
    objects.add("data/train/cat/1.png")
    objects.add("data/train/dog/2.png")
    objects.add("data/other.png")
    objects.add("data/train/", "")
    folder = tmp_path / "train"
    assert laid_out(objects, channel(uri), folder) == ["cat/1.png", "dog/2.png"]


def test_one_object_keeps_its_name(objects: FakeObjects, tmp_path: Path) -> None:
    objects.add("data/train.csv", "1,2")
    lay_out(objects, channel("s3://bucket/data/train.csv"), HOSTS[0], HOSTS, tmp_path / "c")
    assert files(tmp_path / "c") == {"train.csv": "1,2"}


def test_a_prefix_that_ends_within_a_name_includes_all_matching_keys(
    objects: FakeObjects, tmp_path: Path
) -> None:
    for key in ("data/part-1", "data/part-2", "data/parts/3", "data/other"):
        objects.add(key)
    found = laid_out(objects, channel("s3://bucket/data/part"), tmp_path / "c")
    assert found == ["part-1", "part-2", "parts/3"]


def write(path: Path) -> None:
    path.chmod(0o666)
    path.write_text("spoiled")


def shorten(path: Path) -> None:
    path.chmod(0o666)
    os.truncate(path, 0)


def rename(path: Path) -> None:
    path.rename(path.with_name("other"))


@pytest.mark.parametrize(
    "damage", [write, shorten, rename, Path.unlink, lambda path: path.chmod(0o600)]
)
def test_changes_to_a_jobs_inputs_do_not_affect_other_files(
    damage: Callable[[Path], None], objects: FakeObjects, tmp_path: Path
) -> None:
    objects.add("a/b", "whole")
    mine = tmp_path / "mine" / "b"
    mine.parent.mkdir()
    mine.write_text("whole")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "b").symlink_to(mine)
    stored = objects.folder / BUCKET / "a|b"
    before = mine.stat().st_mode, stored.stat().st_mode
    for n, uri in enumerate(
        ["s3://bucket/a", mine.parent.as_uri(), mine.as_uri(), (tmp_path / "linked").as_uri()]
    ):
        folder = tmp_path / f"channel {n}"
        lay_out(objects, channel(uri), HOSTS[0], HOSTS, folder)
        assert files(folder) == {"b": "whole"}
        assert (folder / "b").stat().st_mode & 0o777 == 0o444
        damage(folder / "b")
        assert mine.read_text() == stored.read_text() == "whole"
        assert (mine.stat().st_mode, stored.stat().st_mode) == before


def test_sharded_keys_are_distributed_over_the_hosts(objects: FakeObjects, tmp_path: Path) -> None:
    for n in range(7):
        objects.add(f"a/{n}")
    given = channel("s3://bucket/a", S3DataDistributionType="ShardedByS3Key")
    shares = [laid_out(objects, given, tmp_path / str(host), host) for host in range(3)]
    assert shares == [["0", "3", "6"], ["1", "4"], ["2", "5"]]


def test_replicated_data_is_copied_to_every_host(objects: FakeObjects, tmp_path: Path) -> None:
    objects.add("a/1")
    given = channel("s3://bucket/a", S3DataDistributionType="FullyReplicated")
    assert [laid_out(objects, given, tmp_path / str(host), host) for host in range(3)] == [
        ["1"]
    ] * 3


def test_a_channel_for_another_instance_group_stays_empty(
    objects: FakeObjects, tmp_path: Path
) -> None:
    objects.add("a/1")
    given = channel("s3://bucket/a", InstanceGroupNames=["other"])
    assert laid_out(objects, given, tmp_path / "c") == []


def test_a_manifest_names_its_objects(objects: FakeObjects, tmp_path: Path) -> None:
    objects.add("a/x/1", "one")
    objects.add("a/2", "two")
    objects.add("a/3", "three")
    objects.add("list", json.dumps([{"prefix": f"s3://{BUCKET}/a/"}, "x/1", "2"]))
    lay_out(objects, channel("s3://bucket/list", "ManifestFile"), HOSTS[0], HOSTS, tmp_path / "c")
    assert files(tmp_path / "c") == {"2": "two", "x/1": "one"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a manifest"),
        ("no json", "is not a manifest"),
        ('["s3://bucket/a/", "1"]', "is not a manifest"),
        ('[{"prefix": "bucket/a"}, "1"]', "S3Uri: found"),
        ('[{"prefix": "s3://bucket/a/"}, 1]', "found 1, expected a key as a string"),
        ('[{"prefix": "s3://bucket/a/"}, "gone"]', "no S3 objects found under s3://bucket/a/gone"),
        ('[{"prefix": "s3://bucket/"}, "../../x"]', "not a valid path"),
    ],
)
def test_an_invalid_manifest_is_refused_in_one_line(
    text: str, message: str, objects: FakeObjects, tmp_path: Path
) -> None:
    objects.add("list", text)
    objects.add("../../x")
    with pytest.raises(BadChannel, match=message) as caught:
        lay_out(
            objects, channel("s3://bucket/list", "ManifestFile"), HOSTS[0], HOSTS, tmp_path / "c"
        )
    assert str(caught.value).startswith("channel train: ")


@pytest.mark.parametrize("key", ["a/../../x", "a/./x", "a/" + "n" * 256, "a/\0"])
def test_a_key_that_leads_outside_the_channel_is_refused(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = FakeObjects(tmp_path / "s3")
    stored = StoredObject(key, 1, "")
    monkeypatch.setattr(objects, "keys", lambda *_: [stored])
    with pytest.raises(BadChannel, match="cannot be a file"):
        lay_out(objects, channel("s3://bucket/a"), HOSTS[0], HOSTS, tmp_path / "c" / "d")
    assert files(tmp_path / "c") == {}


def test_absolute_keys_are_placed_inside_the_channel(objects: FakeObjects, tmp_path: Path) -> None:
    objects.add("a//etc/passwd")
    assert laid_out(objects, channel("s3://bucket/a"), tmp_path / "c") == ["etc/passwd"]


def test_a_name_that_is_both_file_and_folder_is_refused(
    objects: FakeObjects, tmp_path: Path
) -> None:
    objects.add("a/b")
    objects.add("a/b/c")
    with pytest.raises(BadChannel, match="a file and a folder of the same name"):
        lay_out(objects, channel("s3://bucket/a"), HOSTS[0], HOSTS, tmp_path / "c")


def test_keys_that_differ_only_in_case_are_refused_on_a_case_insensitive_disk(
    objects: FakeObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.add("a/cat.jpg")
    objects.add("a/Cat.jpg")
    copied = objects.copy

    def copy(bucket: str, key: str, path: Path) -> None:
        copied(bucket, key, path.with_name(path.name.lower()))

    monkeypatch.setattr(objects, "copy", copy)
    monkeypatch.setattr("local.emulator.training.channels.ignores_case", lambda _: True)
    with pytest.raises(BadChannel, match=r"cat\.jpg: .* only differ in case"):
        lay_out(objects, channel("s3://bucket/a"), HOSTS[0], HOSTS, tmp_path / "c")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://nowhere/a", "no such bucket: nowhere"),
        ("s3://bucket/nothing", "no S3 objects found under s3://bucket/nothing"),
        ("https://bucket/a", "expected s3://bucket/prefix"),
        ("file:///no/such/folder", "no such file or folder: /no/such/folder"),
        ("file://host/folder", "expected file:///path/to/folder"),
    ],
)
def test_missing_data_is_named(
    uri: str, message: str, objects: FakeObjects, tmp_path: Path
) -> None:
    with pytest.raises(BadChannel, match=message):
        lay_out(objects, channel(uri), HOSTS[0], HOSTS, tmp_path / "c")


def test_augmented_manifests_are_refused(objects: FakeObjects, tmp_path: Path) -> None:
    given = channel("s3://bucket/list", "AugmentedManifestFile")
    with pytest.raises(BadChannel, match="found AugmentedManifestFile, expected S3Prefix or"):
        lay_out(objects, given, HOSTS[0], HOSTS, tmp_path / "c")


def test_a_local_folder_is_copied(objects: FakeObjects, tmp_path: Path) -> None:
    source = tmp_path / "my data"
    (source / "cat").mkdir(parents=True)
    (source / "cat" / "1.png").write_text("cat")
    (source / "loop").symlink_to(source)
    (source / "also").symlink_to(source / "cat")
    folder = tmp_path / "c"
    lay_out(objects, channel(source.as_uri()), HOSTS[0], HOSTS, folder)
    assert files(folder) == {"also/1.png": "cat", "cat/1.png": "cat"}
    assert not (folder / "cat" / "1.png").is_symlink()


def test_a_single_local_file(objects: FakeObjects, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    lay_out(objects, channel((tmp_path / "a.csv").as_uri()), HOSTS[0], HOSTS, tmp_path / "c")
    assert files(tmp_path / "c") == {"a.csv": "1"}


def test_a_broken_link_is_named(objects: FakeObjects, tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    (source / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(BadChannel, match="a broken link"):
        lay_out(objects, channel(source.as_uri()), HOSTS[0], HOSTS, tmp_path / "c")

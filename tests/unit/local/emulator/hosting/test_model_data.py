from pathlib import Path
from typing import Any

import pytest

from local.emulator.hosting.model_data import BadModelData, copy_tree, fetch, source_of
from tests.unit.local.emulator.fakes import BUCKET, FakeObjects
from tests.unit.local.emulator.hosting_harness import archive

URI = f"s3://{BUCKET}/model.tar.gz"
GZIP = {"uri": URI, "type": "archive"}


@pytest.fixture
def objects(tmp_path: Path) -> FakeObjects:
    return FakeObjects(tmp_path / "s3")


def test_an_archive_is_unpacked_into_read_only_files(tmp_path: Path, objects: FakeObjects) -> None:
    objects.add("model.tar.gz", archive({"model.json": b"{}", "./deep/weights": b"123"}))
    fetch(objects, GZIP, tmp_path / "model")
    assert (tmp_path / "model/model.json").read_bytes() == b"{}"
    weights = tmp_path / "model/deep/weights"
    assert weights.read_bytes() == b"123"
    assert weights.stat().st_mode & 0o222 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "s3"]


def test_changes_to_copied_files_do_not_affect_the_originals(tmp_path: Path) -> None:
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "a/deep/weights").write_bytes(b"123")
    copy_tree(tmp_path / "a", tmp_path / "b")
    weights = tmp_path / "b/deep/weights"
    assert weights.read_bytes() == b"123"
    weights.chmod(0o600)
    weights.write_bytes(b"")
    assert (tmp_path / "a/deep/weights").read_bytes() == b"123"


@pytest.mark.parametrize(
    ("scheme", "kind"), [("s3", "prefix"), ("s3", "object"), ("file", "object")]
)
def test_changes_to_a_containers_model_do_not_affect_others(
    tmp_path: Path, objects: FakeObjects, scheme: str, kind: str
) -> None:
    objects.add("m/weights", b"123")
    stored = objects.folder / BUCKET / "m|weights"
    uri = f"s3://{BUCKET}/m/" if kind == "prefix" else f"s3://{BUCKET}/m/weights"
    if scheme == "file":
        uri = stored.as_uri()
    fetch(objects, {"uri": uri, "type": kind}, tmp_path / "model")
    (weights,) = (tmp_path / "model").iterdir()
    weights.chmod(0o600)
    weights.write_bytes(b"")
    assert stored.read_bytes() == b"123"


@pytest.mark.parametrize(
    "bad", [b"", b"no archive", archive({"../out": b""})], ids=["empty", "text", "hostile"]
)
def test_an_invalid_archive_is_refused_with_its_uri(
    tmp_path: Path, objects: FakeObjects, bad: bytes
) -> None:
    objects.add("model.tar.gz", bad)
    with pytest.raises(BadModelData, match=URI):
        fetch(objects, GZIP, tmp_path / "deep" / "model")
    assert not (tmp_path / "deep/out").exists()


def test_an_archive_larger_than_the_volume_is_refused(tmp_path: Path, objects: FakeObjects) -> None:
    objects.add("model.tar.gz", archive({"weights": b"123"}))
    with pytest.raises(BadModelData, match="weights: 3 bytes"):
        fetch(objects, GZIP, tmp_path / "model", limit_gb=0)


def test_missing_data_is_named(tmp_path: Path, objects: FakeObjects) -> None:
    for number, (uri, words) in enumerate(
        (
            (URI, "there is no such object"),
            ("s3://nowhere/model.tar.gz", "there is no bucket nowhere"),
            (f"file://{tmp_path}/none.tar.gz", "there is no such file"),
            ("https://bucket.s3.amazonaws.com/m", "expected s3://"),
        )
    ):
        with pytest.raises(BadModelData, match=words) as caught:
            fetch(objects, {"uri": uri, "type": "archive"}, tmp_path / str(number))
        assert uri in str(caught.value)


def test_a_prefix_an_object_and_a_local_file(tmp_path: Path, objects: FakeObjects) -> None:
    objects.add("m/model.json", b"{}")
    objects.add("m/deep/weights", b"123")
    objects.add("mother", b"other")
    fetch(objects, {"uri": f"s3://{BUCKET}/m", "type": "prefix"}, tmp_path / "prefix")
    files = {p.relative_to(tmp_path / "prefix") for p in (tmp_path / "prefix").rglob("*")}
    assert files == {Path("model.json"), Path("deep"), Path("deep/weights")}
    fetch(objects, {"uri": f"s3://{BUCKET}/m/model.json", "type": "object"}, tmp_path / "object")
    assert (tmp_path / "object/model.json").read_bytes() == b"{}"
    local = tmp_path / "own model.tar.gz"
    local.write_bytes(archive({"model.json": b"local"}))
    fetch(objects, {"uri": local.as_uri(), "type": "archive"}, tmp_path / "local")
    assert (tmp_path / "local/model.json").read_bytes() == b"local"
    fetch(objects, None, tmp_path / "none")
    assert list((tmp_path / "none").iterdir()) == []


def test_a_key_cannot_lead_outside_the_folder(tmp_path: Path, objects: FakeObjects) -> None:
    objects.add("m/../../out", b"x")
    with pytest.raises(BadModelData, match="leads out"):
        fetch(objects, {"uri": f"s3://{BUCKET}/m/", "type": "prefix"}, tmp_path / "model")


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, None),
        ({"ModelDataUrl": URI}, GZIP),
        ({"Source": ("S3Object", "Gzip")}, GZIP),
        ({"Source": ("S3Object", "None")}, {"uri": URI, "type": "object"}),
        ({"Source": ("S3Prefix", "None")}, {"uri": URI, "type": "prefix"}),
    ],
)
def test_the_location_of_the_model_data(
    container: dict[str, Any], expected: dict[str, str] | None
) -> None:
    assert source_of(definition(container)) == expected


def definition(container: dict[str, Any]) -> dict[str, Any]:
    if "Source" not in container:
        return container
    kind, compression = container["Source"]
    source = {"S3Uri": URI, "S3DataType": kind, "CompressionType": compression}
    return {"ModelDataSource": {"S3DataSource": source}}

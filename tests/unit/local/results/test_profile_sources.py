import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.errors import UserError
from local.results.profile_sources import (
    fetch_folder,
    is_path,
    recording_at,
    recording_in_s3,
    report_name,
)


def archive(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


class Body(io.BytesIO):
    def iter_chunks(self, size: int) -> Iterator[bytes]:
        while chunk := self.read(size):
            yield chunk


class S3:
    """A target and its S3, with keys in one bucket."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects

    def client(self, _service: str, connections: int = 10) -> "S3":
        assert connections
        return self

    def get_paginator(self, _name: str) -> "S3":
        return self

    def paginate(self, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        if Bucket != "bucket":
            raise ClientError({"Error": {"Code": "NoSuchBucket"}}, "ListObjectsV2")
        found = [key for key in self.objects if key.startswith(Prefix)]
        yield {"Contents": [{"Key": key, "Size": len(self.objects[key])} for key in found]}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        assert Bucket == "bucket"
        return {"Body": Body(self.objects[Key])}

    def download_file(self, _bucket: str, key: str, path: str) -> None:
        if key not in self.objects:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        Path(path).write_bytes(self.objects[key])


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("given", "path", "name"),
    [
        ("first", False, "first-report"),
        ("output.tar.gz", True, None),
        ("./first", True, "first-report"),
        ("/data/first/output/data/profiler/", True, "first-report"),
        ("s3://bucket/jobs/first/profiler-output", True, "first-report"),
        ("s3://bucket/jobs/first/output/output.tar.gz", True, "first-report"),
        ("s3://bucket/jobs/first.tgz", True, "first-report"),
    ],
)
def test_paths_are_recognised_and_their_reports_named(
    given: str, path: bool, name: str | None
) -> None:
    assert is_path(given) is path
    if name is not None:
        assert report_name(given) == name


@pytest.mark.parametrize(
    ("inside", "meant"),
    [
        ("profiler-output/system/a.json", "profiler-output"),
        ("output/data/profiler/job.json", "output"),
        ("system/a.json", "."),
        ("data/profiler/job.json", "."),
    ],
)
def test_the_meaning_of_a_folder(inside: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "there" / inside).parent.mkdir(parents=True)
    (tmp_path / "there" / inside).write_text("{}")
    with recording_at(tmp_path / "there", tmp_path / "into") as folder:
        assert folder == tmp_path / "there" / meant
    assert not (tmp_path / "into").exists()


def test_an_archive_is_unpacked_temporarily(tmp_path: Path) -> None:
    path = tmp_path / "output.tar.gz"
    path.write_bytes(archive(**{"data/profiler/job.json": "{}"}))
    with recording_at(path, tmp_path / "into") as folder:
        assert files(folder) == ["data/profiler/job.json"]
    assert list((tmp_path / "into").iterdir()) == []


def test_an_archive_is_not_unpacked_outside_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "output.tar.gz"
    path.write_bytes(archive(**{"../evil": "x"}))
    with (
        pytest.raises(UserError, match="leads out of the folder"),
        recording_at(path, tmp_path / "into"),
    ):
        pass
    assert not (tmp_path / "evil").exists()


def test_a_missing_path(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="no such file or folder"),
        recording_at(tmp_path / "none", tmp_path),
    ):
        pass


PROFILER_OUTPUT = {
    "jobs/first/profiler-output/system/a.json": b"a",
    "jobs/first/profiler-output/framework/": b"",
    "jobs/first/profiler-output/framework/b.json": b"b",
    "jobs/first/debug-output/tensors": b"gigabytes",
}


@pytest.mark.parametrize(
    "uri", ["s3://bucket/jobs/first/", "s3://bucket/jobs/first/profiler-output"]
)
def test_only_the_recording_below_a_jobs_prefix_is_downloaded(uri: str, tmp_path: Path) -> None:
    with recording_in_s3(S3(**PROFILER_OUTPUT), uri, tmp_path) as folder:  # type: ignore[arg-type]
        assert files(folder) == ["framework/b.json", "system/a.json"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["s3://bucket/jobs/first", "s3://bucket/jobs/first/output/output.tar.gz"]
)
def test_an_archive_in_s3(uri: str, tmp_path: Path) -> None:
    s3 = S3(**{"jobs/first/output/output.tar.gz": archive(**{"data/profiler/job.json": "{}"})})
    with recording_in_s3(s3, uri, tmp_path) as folder:  # type: ignore[arg-type]
        assert files(folder) == ["data/profiler/job.json"]


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("s3://bucket/none/", "s3://bucket/none/: found nothing"),
        ("s3://bucket/none.tar.gz", "none.tar.gz: no such object"),
        ("s3://other/none", "no such bucket: other"),
        ("s3://bucket/evil", "the key is a path outside the folder"),
    ],
)
def test_locations_that_cannot_be_downloaded(uri: str, line: str, tmp_path: Path) -> None:
    s3 = S3(**{"evil/../../x": b""})
    with pytest.raises(UserError, match=line), recording_in_s3(s3, uri, tmp_path):  # type: ignore[arg-type]
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = S3(**PROFILER_OUTPUT)
    folder = tmp_path / "first" / "profiler-output"
    with monkeypatch.context() as patch:
        patch.setattr("local.results.profile_sources.MAX_FILES", 1)
        with pytest.raises(UserError, match="more than .* or 1 files"):
            fetch_folder(s3, "s3://bucket/jobs/first/profiler-output", folder)  # type: ignore[arg-type]
        assert not folder.exists()
    assert fetch_folder(s3, "s3://bucket/jobs/first/profiler-output", folder) == 2  # type: ignore[arg-type]
    assert files(folder) == ["framework/b.json", "system/a.json"]

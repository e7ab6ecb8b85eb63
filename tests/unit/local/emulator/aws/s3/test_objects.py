import contextlib
import errno
import io
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import client, serve

BUCKET = "bucket"


@pytest.fixture
def server(home: Home) -> Iterator[Server]:
    with serve(home) as server:
        client(server.url, "s3").create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture
def s3(server: Server) -> Any:
    return client(server.url, "s3")


def files(home: Home) -> list[Path]:
    return [path for path in home.objects.glob("*/**/*") if path.is_file()]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_everything_about_an_object_survives_a_restart(home: Home) -> None:
    with serve(home) as server:
        s3 = client(server.url, "s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(
            Bucket=BUCKET,
            Key="a/b c+d ü.txt",
            Body=b"hello",
            ContentType="text/plain",
            ContentEncoding="identity",
            Metadata={"who_wrote": "me"},
            Tagging="a=b&c=d",
            ACL="public-read",
            StorageClass="STANDARD_IA",
        )
        s3.put_object(Bucket=BUCKET, Key="gone", Body=b"x")
        s3.delete_object(Bucket=BUCKET, Key="gone")
        s3.copy_object(
            Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "a/b c+d ü.txt"}
        )
        before = _describe(s3, "a/b c+d ü.txt"), _describe(s3, "copy")
        listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        buckets = s3.list_buckets()["Buckets"]
    with serve(home) as server:
        s3 = client(server.url, "s3")
        assert (_describe(s3, "a/b c+d ü.txt"), _describe(s3, "copy")) == before
        assert s3.list_objects_v2(Bucket=BUCKET)["Contents"] == listed
        assert [item["Key"] for item in listed] == ["a/b c+d ü.txt", "copy"]
        assert s3.list_buckets()["Buckets"] == buckets
        assert len(files(home)) == 2


def _describe(s3: Any, key: str) -> Any:
    head = s3.get_object(Bucket=BUCKET, Key=key)
    fields = ("ETag", "LastModified", "ContentType", "ContentEncoding", "Metadata", "StorageClass")
    told = {field: head.get(field) for field in fields}
    tags = s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
    grants = s3.get_object_acl(Bucket=BUCKET, Key=key)["Grants"]
    return head["Body"].read(), told, tags, grants


def test_a_multipart_upload_is_one_object_with_the_etag_of_its_parts(home: Home) -> None:
    data = os.urandom(13_000_000)
    with serve(home) as server:
        s3 = client(server.url, "s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.upload_fileobj(io.BytesIO(data), BUCKET, "big")
        etag = s3.head_object(Bucket=BUCKET, Key="big")["ETag"]
        assert etag.endswith('-2"')
        assert len(files(home)) == 1
    with serve(home) as server:
        s3 = client(server.url, "s3")
        assert s3.head_object(Bucket=BUCKET, Key="big")["ETag"] == etag
        found = io.BytesIO()
        s3.download_fileobj(BUCKET, "big", found)
        assert found.getvalue() == data
        part = s3.get_object(Bucket=BUCKET, Key="big", Range="bytes=8388606-8388610")
        assert part["Body"].read() == data[8388606:8388611]
        assert part["ContentRange"] == "bytes 8388606-8388610/13000000"


def test_an_aborted_upload_removes_its_files(home: Home, s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload, PartNumber=1, Body=b"one")
    s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload, PartNumber=1, Body=b"two")
    assert len(files(home)) == 1
    s3.abort_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload)
    assert files(home) == []
    with pytest.raises(ClientError) as error:
        s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload, PartNumber=1, Body=b"one")
    assert code(error) == "NoSuchUpload"


def test_parts_copied_from_another_object(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="source", Body=b"0123456789")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="joined")["UploadId"]
    part = s3.upload_part_copy(
        Bucket=BUCKET,
        Key="joined",
        UploadId=upload,
        PartNumber=1,
        CopySource={"Bucket": BUCKET, "Key": "source"},
        CopySourceRange="bytes=2-5",
    )["CopyPartResult"]
    s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key="joined",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert s3.get_object(Bucket=BUCKET, Key="joined")["Body"].read() == b"2345"
    assert s3.get_object(Bucket=BUCKET, Key="source")["Body"].read() == b"0123456789"


def test_versions_and_delete_markers_survive_a_restart(home: Home) -> None:
    with serve(home) as server:
        s3 = client(server.url, "s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["VersionId"]
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"2")
        marker = s3.delete_object(Bucket=BUCKET, Key="k")["VersionId"]
    with serve(home) as server:
        s3 = client(server.url, "s3")
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
        found = s3.get_object(Bucket=BUCKET, Key="k", VersionId=first)
        assert found["Body"].read() == b"1"
        versions = s3.list_object_versions(Bucket=BUCKET)
        assert len(versions["Versions"]) == 2
        assert versions["DeleteMarkers"][0]["VersionId"] == marker
        s3.delete_object(Bucket=BUCKET, Key="k", VersionId=marker)
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"2"
        s3.delete_object(Bucket=BUCKET, Key="k", VersionId=first)
        assert len(files(home)) == 1


def test_replacing_an_object_does_not_change_the_link_of_a_running_job(
    server: Server, s3: Any, tmp_path: Path
) -> None:
    objects = server.services.objects
    s3.put_object(Bucket=BUCKET, Key="data/x", Body=b"old")
    link = tmp_path / "job" / "input" / "x"
    objects.link(BUCKET, "data/x", link)
    s3.put_object(Bucket=BUCKET, Key="data/x", Body=b"new")
    assert link.read_bytes() == b"old"
    assert link.stat().st_mode & 0o777 == 0o444
    assert objects.read(BUCKET, "data/x") == b"new"
    objects.link(BUCKET, "data/x", link)
    assert link.read_bytes() == b"new"
    assert link.stat().st_nlink == 2
    copy = tmp_path / "job" / "input" / "copy"
    objects.copy(BUCKET, "data/x", copy)
    copy.chmod(0o666)
    copy.write_bytes(b"spoiled")
    assert objects.read(BUCKET, "data/x") == b"new"
    with pytest.raises(KeyError, match="s3://bucket/data/y"):
        objects.copy(BUCKET, "data/y", copy)


def test_an_object_is_copied_to_another_disk(
    server: Server, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(_source: object, _target: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    s3.put_object(Bucket=BUCKET, Key="x", Body=b"bytes")
    monkeypatch.setattr(os, "link", link)
    server.services.objects.link(BUCKET, "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"bytes"
    assert (tmp_path / "x").stat().st_nlink == 1
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o444


def test_clients_read_the_objects_written_by_jobs(server: Server, s3: Any, tmp_path: Path) -> None:
    objects = server.services.objects
    (tmp_path / "model").write_bytes(b"model")
    objects.put(BUCKET, "out/model", tmp_path / "model")
    assert s3.get_object(Bucket=BUCKET, Key="out/model")["Body"].read() == b"model"
    assert [(item.key, item.size) for item in objects.keys(BUCKET, "out/")] == [("out/model", 5)]
    assert objects.keys(BUCKET, "other/") == []
    objects.delete(BUCKET, "out/model")
    objects.delete(BUCKET, "out/model")
    with pytest.raises(KeyError, match="s3://bucket/out/model"):
        objects.read(BUCKET, "out/model")
    with pytest.raises(OSError, match="s3://missing: no such bucket"):
        objects.put("missing", "x", tmp_path / "model")
    assert not objects.bucket_exists("missing")
    assert objects.keys("missing") == []


def test_a_full_disk_is_an_error_and_keeps_the_old_object(
    home: Home, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=BUCKET, Key="x", Body=b"new" * 1000)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507
    assert code(error) == "InternalError"
    assert "No space left on device" in error.value.response["Error"]["Message"]
    assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"old"
    with contextlib.closing(sqlite3.connect(home.objects / "index.sqlite")) as index:
        index.execute(
            "CREATE TRIGGER full BEFORE DELETE ON objects "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(ClientError, match="disk is full"):
        s3.put_object(Bucket=BUCKET, Key="x", Body=b"new")
    with pytest.raises(ClientError, match="disk is full"):
        s3.delete_object(Bucket=BUCKET, Key="x")
    assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"old"
    assert len(files(home)) == 1


def full(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_body_with_a_wrong_checksum_is_refused(home: Home, s3: Any) -> None:
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="x", Body=b"bytes", ChecksumCRC32="AAAAAA==")
    assert code(error) == "BadDigest"
    assert files(home) == []


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_listing_gives_every_object_once_in_order_and_folders(
    server: Server, s3: Any, tmp_path: Path, operation: str
) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"x")
    names = [f"{folder}/{number:02d}" for folder in ("a", "b", "b-c") for number in range(7)]
    for name in [*names, "top", "a.txt"]:
        server.services.objects.put(BUCKET, name, source)
    pages = s3.get_paginator(operation).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 4})
    found = [item["Key"] for page in pages for item in page.get("Contents", [])]
    assert found == sorted([*names, "top", "a.txt"])
    pages = list(
        s3.get_paginator(operation).paginate(
            Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": 2}
        )
    )
    folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
    objects = [item["Key"] for page in pages for item in page.get("Contents", [])]
    assert folders == ["a/", "b-c/", "b/"]
    assert objects == ["a.txt", "top"]
    below = s3.get_paginator(operation).paginate(Bucket=BUCKET, Prefix="b/", Delimiter="/")
    assert [item["Key"] for page in below for item in page["Contents"]] == names[7:14]


def test_keys_with_any_characters_are_listed_unchanged(s3: Any) -> None:
    names = ["a&b/<c>", "a&b/d e+f%", "a&b/ü\t"]
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"bytes")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix="a&b/", FetchOwner=True)
    assert [item["Key"] for item in found["Contents"]] == sorted(names)
    assert found["Prefix"] == "a&b/"
    assert found["Contents"][0]["ETag"] == s3.head_object(Bucket=BUCKET, Key=names[0])["ETag"]
    assert found["Contents"][0]["Owner"]["ID"]
    after = s3.list_objects_v2(Bucket=BUCKET, StartAfter=names[0])
    assert [item["Key"] for item in after["Contents"]] == sorted(names)[1:]
    folders = s3.list_objects_v2(Bucket=BUCKET, Delimiter="&")["CommonPrefixes"]
    assert folders == [{"Prefix": "a&"}]
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket="missing")
    assert code(error) == "NoSuchBucket"


def test_pagination_continues_after_a_restart(home: Home) -> None:
    with serve(home) as server:
        s3 = client(server.url, "s3")
        s3.create_bucket(Bucket=BUCKET)
        for name in "abc":
            s3.put_object(Bucket=BUCKET, Key=name, Body=b"")
        token = s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1)["NextContinuationToken"]
    with serve(home) as server:
        s3 = client(server.url, "s3")
        rest = s3.list_objects_v2(Bucket=BUCKET, ContinuationToken=token)
        assert [item["Key"] for item in rest["Contents"]] == ["b", "c"]
        with pytest.raises(ClientError) as error:
            s3.list_objects_v2(Bucket=BUCKET, ContinuationToken="nonsense")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_concurrent_writes_keep_one_file_per_object(
    server: Server, home: Home, tmp_path: Path
) -> None:
    def write(number: int) -> None:
        path = tmp_path / str(number)
        path.write_bytes(str(number).encode())
        for key in range(20):
            server.services.objects.put(BUCKET, f"k{key % 3}", path)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    objects = server.services.objects
    assert [item.key for item in objects.keys(BUCKET)] == ["k0", "k1", "k2"]
    assert len(files(home)) == 3
    assert all(objects.read(BUCKET, f"k{key}").isdigit() for key in range(3))


def test_files_of_unfinished_uploads_are_removed(home: Home) -> None:
    with serve(home) as server:
        s3 = client(server.url, "s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="kept", Body=b"x")
    (home.objects / "incoming" / "half").write_bytes(b"half")
    (home.objects / "content" / "ab" / "abcdef").write_bytes(b"nobody's")
    with serve(home):
        assert len(files(home)) == 1

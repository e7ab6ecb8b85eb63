"""S3 requests other than for whole objects: ranges, conditions, parts, copies and settings."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import s3fs
from botocore.exceptions import ClientError

from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import REGION, access_key, client, serve

BUCKET = "bucket"
FIVE_MEBIBYTES = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(Home.find(tmp_path_factory.mktemp("s3") / "home")) as server:
        client(server.url, "s3").create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture
def s3(server: Server) -> Any:
    return client(server.url, "s3")


def refusal(operation: Callable[..., Any], **members: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        operation(**members)
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-3", 0, 3), ("bytes=-3", 7, 9), ("bytes=5-", 5, 9), ("bytes=2-100", 2, 9)],
)
def test_a_range(s3: Any, asked: str, first: int, last: int) -> None:
    s3.put_object(Bucket=BUCKET, Key="range", Body=b"0123456789")
    answer = s3.get_object(Bucket=BUCKET, Key="range", Range=asked)
    assert answer["Body"].read() == b"0123456789"[first : last + 1]
    assert answer["ContentRange"] == f"bytes {first}-{last}/10"
    assert s3.head_object(Bucket=BUCKET, Key="range", Range=asked)["ContentLength"] == (
        last - first + 1
    )


def test_a_range_outside_of_the_object(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="range", Body=b"0123456789")
    asked = {"Bucket": BUCKET, "Key": "range", "Range": "bytes=10-"}
    assert refusal(s3.get_object, **asked) == ("InvalidRange", 416)


def test_conditions(s3: Any) -> None:
    s3.delete_object(Bucket=BUCKET, Key="condition")
    named = {"Bucket": BUCKET, "Key": "condition"}
    assert refusal(s3.put_object, **named, IfMatch='"x"') == ("NoSuchKey", 404)
    etag = s3.put_object(**named, Body=b"1", IfNoneMatch="*")["ETag"]
    modified = s3.head_object(**named)["LastModified"]
    failed = ("PreconditionFailed", 412)
    assert refusal(s3.put_object, **named, IfNoneMatch="*") == failed
    assert refusal(s3.put_object, **named, IfMatch='"x"') == failed
    assert refusal(s3.get_object, **named, IfMatch='"x"') == failed
    assert refusal(s3.get_object, **named, IfNoneMatch=etag) == ("304", 304)
    assert refusal(s3.get_object, **named, IfModifiedSince=modified) == ("304", 304)
    copied = {"Bucket": BUCKET, "Key": "copy", "CopySource": f"{BUCKET}/condition"}
    assert refusal(s3.copy_object, **copied, CopySourceIfNoneMatch=etag) == failed
    assert s3.get_object(**named, IfMatch=etag, IfUnmodifiedSince=modified)["Body"].read() == b"1"
    assert s3.put_object(**named, Body=b"2", IfMatch=etag)["ETag"] != etag


def test_parts(s3: Any) -> None:
    named = {"Bucket": BUCKET, "Key": "parts"}
    upload = s3.create_multipart_upload(**named, ChecksumAlgorithm="CRC32", Metadata={"a": "b"})
    named_upload = named | {"UploadId": upload["UploadId"]}
    parts = []
    for number, body in ((1, b"a" * FIVE_MEBIBYTES), (2, b"small"), (3, b"tail")):
        part = s3.upload_part(
            **named_upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32"
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    listed = s3.get_paginator("list_parts").paginate(
        **named_upload, PaginationConfig={"PageSize": 2}
    )
    sizes = [[part["Size"] for part in page["Parts"]] for page in listed]
    assert sizes == [[FIVE_MEBIBYTES, 5], [4]]
    [open_upload] = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert open_upload["UploadId"] == upload["UploadId"]

    def complete(chosen: list[Any]) -> Any:
        return s3.complete_multipart_upload(**named_upload, MultipartUpload={"Parts": chosen})

    wrong = {
        "EntityTooSmall": parts,
        "InvalidPartOrder": parts[::-1],
        "InvalidPart": [{"PartNumber": 9, "ETag": '"x"'}],
    }
    for code, chosen in wrong.items():
        assert refusal(complete, chosen=chosen) == (code, 400)
    first, again = (complete([parts[0], parts[2]]) for _ in range(2))
    assert first["ETag"] == again["ETag"] == s3.head_object(**named)["ETag"]
    assert first["ChecksumCRC32"].endswith("-2")
    part = s3.get_object(**named, PartNumber=2)
    assert (part["Body"].read(), part["PartsCount"], part["Metadata"]) == (b"tail", 2, {"a": "b"})
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_a_copy_keeps_or_replaces_metadata(s3: Any) -> None:
    s3.put_object(
        Bucket=BUCKET, Key="one", Body=b"1", Metadata={"a": "b"}, Tagging="t=1", CacheControl="no"
    )
    copied = {"Bucket": BUCKET, "CopySource": {"Bucket": BUCKET, "Key": "one"}}
    assert refusal(s3.copy_object, **copied, Key="one") == ("InvalidRequest", 400)
    s3.copy_object(**copied, Key="kept")
    kept = s3.head_object(Bucket=BUCKET, Key="kept")
    assert (kept["Metadata"], kept["CacheControl"]) == ({"a": "b"}, "no")
    tags = s3.get_object_tagging(Bucket=BUCKET, Key="kept")["TagSet"]
    assert tags == [{"Key": "t", "Value": "1"}]
    s3.copy_object(**copied, Key="one", MetadataDirective="REPLACE", Metadata={"c": "d"})
    replaced = s3.head_object(Bucket=BUCKET, Key="one")
    assert (replaced["Metadata"], "CacheControl" in replaced) == ({"c": "d"}, False)
    assert s3.get_object(Bucket=BUCKET, Key="one")["Body"].read() == b"1"
    missing = {"Bucket": BUCKET, "CopySource": {"Bucket": BUCKET, "Key": "missing"}}
    assert refusal(s3.copy_object, **missing, Key="x") == ("NoSuchKey", 404)


def test_attributes_tags_and_grants_of_an_object(s3: Any) -> None:
    named = {"Bucket": BUCKET, "Key": "object"}
    s3.put_object(**named, Body=b"12345")
    found = s3.get_object_attributes(
        **named, ObjectAttributes=["ETag", "Checksum", "StorageClass", "ObjectSize"]
    )
    assert (found["ObjectSize"], found["StorageClass"]) == (5, "STANDARD")
    assert found["Checksum"]["ChecksumCRC32"] == "y/U6HA=="
    s3.put_object_tagging(**named, Tagging={"TagSet": [{"Key": "a", "Value": "b&c"}]})
    assert s3.get_object_tagging(**named)["TagSet"] == [{"Key": "a", "Value": "b&c"}]
    s3.delete_object_tagging(**named)
    assert s3.get_object_tagging(**named)["TagSet"] == []
    s3.put_object_acl(**named, ACL="public-read")
    grants = s3.get_object_acl(**named)
    assert [grant["Permission"] for grant in grants["Grants"]] == ["FULL_CONTROL", "READ"]
    policy = {"Owner": grants["Owner"], "Grants": grants["Grants"][1:]}
    s3.put_object_acl(**named, AccessControlPolicy=policy)
    assert s3.get_object_acl(**named)["Grants"] == grants["Grants"][1:]


def test_versions_in_pages(s3: Any) -> None:
    s3.create_bucket(Bucket="versions")
    for status in ("Enabled", "Suspended"):
        s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": status})
        for _ in range(2):
            s3.put_object(Bucket="versions", Key="a/1", Body=b"x")
    s3.put_object(Bucket="versions", Key="b", Body=b"x")
    s3.delete_objects(Bucket="versions", Delete={"Objects": [{"Key": "b"}]})
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket="versions", PaginationConfig={"PageSize": 2}
    )
    found = [
        (version["Key"], version["VersionId"] == "null", version["IsLatest"])
        for page in pages
        for version in page.get("Versions", []) + page.get("DeleteMarkers", [])
    ]
    assert found == [
        ("a/1", True, True),
        ("a/1", False, False),
        ("a/1", False, False),
        ("b", True, True),
    ]
    marker = {"Bucket": "versions", "Key": "b"}
    assert refusal(s3.get_object, **marker) == ("NoSuchKey", 404)
    assert refusal(s3.get_object, **marker, VersionId="null") == ("MethodNotAllowed", 405)
    assert refusal(s3.get_object, **marker, VersionId="none") == ("NoSuchVersion", 404)
    folders = s3.list_object_versions(Bucket="versions", Delimiter="/")["CommonPrefixes"]
    assert folders == [{"Prefix": "a/"}]


def test_settings_of_a_bucket(s3: Any) -> None:
    s3.create_bucket(Bucket="settings")
    named = {"Bucket": "settings"}
    assert refusal(s3.get_bucket_policy, **named) == ("NoSuchBucketPolicy", 404)
    assert refusal(s3.put_bucket_policy, **named, Policy="{") == ("MalformedPolicy", 400)
    s3.put_bucket_policy(**named, Policy='{"Version": "2012-10-17", "Statement": []}')
    assert s3.get_bucket_policy(**named)["Policy"].startswith('{"Version"')
    assert s3.get_bucket_policy_status(**named)["PolicyStatus"]["IsPublic"] is False
    s3.delete_bucket_policy(**named)
    assert refusal(s3.get_bucket_policy, **named) == ("NoSuchBucketPolicy", 404)
    rule = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(**named, LifecycleConfiguration={"Rules": [rule]})
    assert s3.get_bucket_lifecycle_configuration(**named)["Rules"] == [rule]
    assert "LoggingEnabled" not in s3.get_bucket_logging(**named)
    s3.put_bucket_acl(**named, ACL="public-read")
    assert len(s3.get_bucket_acl(**named)["Grants"]) == 2
    assert refusal(s3.list_bucket_metrics_configurations, **named) == ("NotImplemented", 501)


def test_cross_origin_requests_allowed_by_a_bucket(server: Server, s3: Any) -> None:
    rule = {
        "AllowedMethods": ["GET"],
        "AllowedOrigins": ["http://localhost:*"],
        "AllowedHeaders": ["x-amz-*"],
    }
    s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": [rule]})
    s3.put_object(Bucket=BUCKET, Key="page", Body=b"x")

    def preflight(**headers: str) -> requests.Response:
        asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "GET"}
        asked |= {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.options(f"{server.url}/{BUCKET}/page", headers=asked, timeout=60)

    allowed = preflight(Access_Control_Request_Headers="x-amz-date")
    assert allowed.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert preflight(Access_Control_Request_Method="PUT").status_code == 403
    assert preflight(Access_Control_Request_Headers="x-other").status_code == 403
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "page"})
    page = requests.get(url, headers={"Origin": "http://localhost:3000"}, timeout=60)
    assert page.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    s3.delete_bucket_cors(Bucket=BUCKET)
    assert preflight().status_code == 403


def test_buckets_of_a_region(server: Server) -> None:
    s3 = client(server.url, "s3", region="eu-west-1")
    there = {"Bucket": "there", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    code = "IllegalLocationConstraintException"
    assert refusal(s3.create_bucket, Bucket="there") == (code, 400)
    s3.create_bucket(**there)
    assert refusal(s3.create_bucket, **there) == ("BucketAlreadyOwnedByYou", 409)
    assert s3.head_bucket(Bucket="there")["BucketRegion"] == "eu-west-1"
    s3.create_multipart_upload(Bucket="there", Key="open")
    s3.delete_bucket(Bucket="there")
    assert refusal(s3.head_bucket, Bucket="there") == ("404", 404)


def test_the_aws_cli(server: Server, tmp_path: Path) -> None:
    settings = {"AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": REGION}
    key = {name.upper(): value for name, value in access_key(server.url).items()}

    def aws(*words: str) -> str:
        command = [str(Path(sys.executable).parent / "aws"), *words]
        environment = {**os.environ, **settings, **key}
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "x y").write_text("small")
    (source / "big").write_bytes(os.urandom(9 * 1024 * 1024))
    aws("s3", "mb", "s3://cli-bucket")
    aws("s3", "sync", "--quiet", str(source), "s3://cli-bucket/d")
    assert aws("s3", "sync", str(source), "s3://cli-bucket/d").strip() == ""
    aws("s3", "mv", "--quiet", "s3://cli-bucket/d/big", "s3://cli-bucket/d/moved")
    listed = aws("s3", "ls", "--recursive", "s3://cli-bucket").splitlines()
    assert [line.split(maxsplit=3)[2:] for line in listed] == [
        ["5", "d/a/x y"],
        [str(9 * 1024 * 1024), "d/moved"],
    ]
    aws("s3", "cp", "--quiet", "--recursive", "s3://cli-bucket/d", str(tmp_path / "back"))
    assert (tmp_path / "back" / "moved").read_bytes() == (source / "big").read_bytes()
    url = aws("s3", "presign", "s3://cli-bucket/d/a/x y").strip()
    assert requests.get(url, timeout=60).text == "small"
    aws("s3", "rb", "--force", "s3://cli-bucket")


def test_s3fs(server: Server) -> None:
    key = access_key(server.url)
    files = s3fs.S3FileSystem(
        key=key["aws_access_key_id"],
        secret=key["aws_secret_access_key"],
        client_kwargs={"endpoint_url": server.url, "region_name": REGION},
    )
    files.mkdir("fs-bucket")
    with files.open("fs-bucket/big", "wb", block_size=FIVE_MEBIBYTES) as file:
        for character in b"abcdefghijkl":
            file.write(bytes([character]) * 1024 * 1024)
    files.copy("fs-bucket/big", "fs-bucket/a/copy")
    assert files.find("fs-bucket") == ["fs-bucket/a/copy", "fs-bucket/big"]
    assert (files.isdir("fs-bucket/a"), files.exists("fs-bucket/none")) == (True, False)
    with files.open("fs-bucket/a/copy", "rb") as file:
        file.seek(6 * 1024 * 1024 - 1)
        assert file.read(2) == b"fg"
    files.rm("fs-bucket/a", recursive=True)
    assert files.ls("fs-bucket") == ["fs-bucket/big"]

"""Requests that the local SageMaker authenticates or refuses, with the errors of AWS."""

import datetime
import hashlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import botocore.auth
import pytest
import requests
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.emulator.aws.signature import claims
from local.emulator.aws.signature.chunked import ChunkSignatures, Upload
from local.emulator.aws.signature.signing import Signer
from local.emulator.credentials import credentials
from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import REGION, Signed, access_key, client, serve

BUCKET = "bucket"
HOUR = 3600
ASKED = {
    "s3": lambda it: it.list_buckets(),
    "sagemaker": lambda it: it.list_training_jobs(),
    "sagemaker-runtime": lambda it: it.invoke_endpoint(EndpointName="e", Body=b"x"),
    "logs": lambda it: it.describe_log_groups(),
    "ecr": lambda it: it.describe_repositories(),
    "iam": lambda it: it.list_roles(),
    "sts": lambda it: it.get_caller_identity(),
    "cloudwatch": lambda it: it.list_metrics(),
}
JSON = {"sagemaker", "sagemaker-runtime", "logs", "ecr", "cloudwatch"}
UNKNOWN = {"s3": "InvalidAccessKeyId", "iam": "InvalidClientTokenId", "sts": "InvalidClientTokenId"}
WRONG = dict.fromkeys(("s3", "iam", "sts"), "SignatureDoesNotMatch")
MISSING = {
    "s3": "AccessDenied",
    "iam": "MissingAuthenticationToken",
    "sts": "MissingAuthenticationToken",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(Home.find(tmp_path_factory.mktemp("verified") / "home")) as server:
        client(server.url, "s3").create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    return client(server.url, "s3", signature_version="s3v4")


def other(server: Server, service: str, **changes: Any) -> Any:
    """Return a client with another key than the server's, or without a key."""
    retries = {"total_max_attempts": 1}
    config = Config(retries=retries, signature_version=changes.pop("signature_version", None))
    keys = access_key(server.url) | changes
    return boto3.client(service, endpoint_url=server.url, region_name=REGION, config=config, **keys)


def refused(service: str, it: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        ASKED[service](it)
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("service", ASKED)
def test_each_service_refuses_with_its_own_error_codes(server: Server, service: str) -> None:
    code, status = refused(service, other(server, service, aws_access_key_id="A" * 20))
    assert code == UNKNOWN.get(service, "UnrecognizedClientException")
    assert status == (403 if service not in JSON or "runtime" in service else 400)
    code, status = refused(service, other(server, service, aws_secret_access_key="wrong"))
    assert code == WRONG.get(service, "InvalidSignatureException")
    code, status = refused(service, other(server, service, signature_version=UNSIGNED))
    assert (code, status) == (MISSING.get(service, "MissingAuthenticationTokenException"), 403)
    code, _ = refused(service, other(server, service, aws_session_token="of another account"))
    assert code == {"s3": "InvalidToken"}.get(
        service, UNKNOWN.get(service, "UnrecognizedClientException")
    )


def test_unsigned_requests_are_refused(server: Server) -> None:
    target = {"X-Amz-Target": "SageMaker.CreateTrainingJob"}
    answer = requests.post(server.url, b"{}", headers=target, timeout=60)
    assert answer.status_code == 403
    assert answer.json()["__type"] == "MissingAuthenticationTokenException"
    form = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15"}
    answer = requests.post(server.url, form, timeout=60)
    assert (answer.status_code, "MissingAuthenticationToken" in answer.text) == (403, True)
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        answer = requests.request(method, f"{server.url}/{BUCKET}/key", data=b"x", timeout=60)
        assert answer.status_code == 403
    health = requests.get(f"{server.url}/_berth/health", timeout=60).text
    assert access_key(server.url)["aws_access_key_id"] not in health


def test_a_public_object_needs_a_signature_too(server: Server, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="public", Body=b"x", ACL="public-read")
    answer = requests.get(f"{server.url}/{BUCKET}/public", timeout=60)
    assert (answer.status_code, "AccessDenied" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("service", "code"),
    [("s3", "RequestTimeTooSkewed"), ("logs", "InvalidSignatureException")],
)
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_request_with_a_wrong_clock_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, service: str, code: str, hours: int
) -> None:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    assert refused(service, client(server.url, service))[0] == code


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_presigned_url_expires(server: Server, version: str) -> None:
    s3 = client(server.url, "s3", signature_version=version)
    asked = {"Bucket": BUCKET, "Key": f"a b+c/%2F~ü({version})"}
    put = s3.generate_presigned_url("put_object", asked)
    assert requests.put(put, b"bytes", timeout=60).status_code == 200
    get = s3.generate_presigned_url("get_object", asked)
    assert requests.get(get, timeout=60).content == b"bytes"
    assert requests.get(get.replace(version, "other"), timeout=60).status_code == 403
    assert requests.delete(get, timeout=60).status_code == 403
    over = s3.generate_presigned_url("get_object", asked, ExpiresIn=0)
    time.sleep(1.1)
    answer = requests.get(over, timeout=60)
    assert (answer.status_code, "Request has expired" in answer.text) == (403, True)
    longer = over.replace("X-Amz-Expires=0", "X-Amz-Expires=99").replace("Expires=1", "Expires=2")
    assert "SignatureDoesNotMatch" in requests.get(longer, timeout=60).text
    names = s3.generate_presigned_url(
        "get_object", asked | {"ResponseContentDisposition": 'attachment; filename="a b.txt"'}
    )
    assert "filename" in requests.get(names, timeout=60).headers["Content-Disposition"]


@pytest.mark.parametrize("expires", ["604801", "-1", "soon"])
def test_a_presigned_url_with_an_invalid_expiry_is_refused(
    server: Server, s3: Any, expires: str
) -> None:
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "key"})
    url = url.replace("X-Amz-Expires=3600", f"X-Amz-Expires={expires}")
    answer = requests.get(url, timeout=60)
    assert answer.status_code == 400
    assert "AuthorizationQueryParametersError" in answer.text


def test_a_presigned_url_allows_only_the_signed_request(server: Server, s3: Any) -> None:
    url = s3.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "given"})
    more = {"x-amz-acl": "public-read"}
    answer = requests.put(url, b"x", headers=more, timeout=60)
    assert (answer.status_code, "x-amz-acl" in answer.text) == (403, True)
    asked = {"Bucket": BUCKET, "Key": "given", "ContentType": "text/plain"}
    url = s3.generate_presigned_url("put_object", asked)
    wrong = requests.put(url, b"x", headers={"Content-Type": "text/html"}, timeout=60)
    right = requests.put(url, b"x", headers={"Content-Type": "text/plain"}, timeout=60)
    assert (wrong.status_code, right.status_code) == (403, 200)


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_presigned_form(server: Server, version: str) -> None:
    s3 = client(server.url, "s3", signature_version=version)

    def post(
        form: Any, more: dict[str, str] | None = None, body: bytes = b"bytes"
    ) -> requests.Response:
        return requests.post(
            form["url"], form["fields"] | (more or {}), files={"file": ("a.txt", body)}, timeout=60
        )

    limits: Any = [["content-length-range", 1, 10], ["starts-with", "$Content-Type", "text/"]]
    form = s3.generate_presigned_post(BUCKET, f"form/{version}", None, limits)
    text = {"Content-Type": "text/plain"}
    done = post(form, text)
    assert done.status_code in (200, 204), done.text
    assert s3.get_object(Bucket=BUCKET, Key=f"form/{version}")["Body"].read() == b"bytes"
    told = {
        "AccessDenied": post(form, {"Content-Type": "image/png"}),
        "EntityTooLarge": post(form, text, b"x" * 11),
        "Extra input fields": post(form, text | {"acl": "public-read"}),
        "Policy Condition failed": post(form, text | {"key": "other"}),
        "SignatureDoesNotMatch": post(form, text | {"policy": "e30="}),
    }
    assert {word: word in answer.text for word, answer in told.items()} == dict.fromkeys(told, True)
    over = s3.generate_presigned_post(BUCKET, "form/over", ExpiresIn=-1)
    assert "Policy expired" in post(over).text
    bare = requests.post(f"{server.url}/{BUCKET}", {"key": "x"}, files={"file": b"x"}, timeout=60)
    assert (bare.status_code, "AccessDenied" in bare.text) == (403, True)
    prefix = s3.generate_presigned_post(BUCKET, "up/${filename}")
    assert post(prefix).status_code in (200, 204)
    assert s3.get_object(Bucket=BUCKET, Key="up/a.txt")["Body"].read() == b"bytes"


@pytest.mark.parametrize(
    "key", ["a/b c", "a+b", "%2F", "a//b", "./a/../b", "ü", "a&b=c?d", "~'()*!"]
)
def test_a_key_of_any_kind(server: Server, s3: Any, key: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), Metadata={"who_wrote": "me  too"})
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()
    assert [
        found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix=key)["Contents"]
    ] == [key]
    s3.delete_object(Bucket=BUCKET, Key=key)


def test_a_body_that_was_not_signed(server: Server) -> None:
    signed = Signed(server.url)

    def exchange(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request = signed(request)
        request.body = b"evil!"
        return request

    answer = requests.put(f"{server.url}/{BUCKET}/body", b"right", auth=exchange, timeout=60)
    assert (answer.status_code, "XAmzContentSHA256Mismatch" in answer.text) == (400, True)
    target = {"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}
    signed = Signed(server.url, "sagemaker")
    answer = requests.post(server.url, b'{"a":1}'[:5], headers=target, auth=exchange, timeout=60)
    assert answer.json()["__type"] == "InvalidSignatureException"


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", None])
def test_a_body_of_unknown_length(server: Server, s3: Any, payload: str | None) -> None:
    class Chunked(Signed):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            body, request.body = request.body, b""
            request = super().__call__(request)
            request.body = body
            return request

    url, auth = f"{server.url}/{BUCKET}/chunked", Chunked(server.url, payload=payload)
    answer = requests.put(url, iter([b"in ", b"pieces"]), auth=auth, timeout=60)
    assert answer.status_code == (200 if payload else 400), answer.text


def chunked(url: str, chunks: list[bytes], trailers: dict[str, str], **changed: str) -> Any:
    """Put an object in chunks, each with its own signature."""
    key = access_key(url)
    auth = SigV4Auth(
        Credentials(key["aws_access_key_id"], key["aws_secret_access_key"]), "s3", REGION
    )
    auth._normalize_url_path = lambda path: path
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailers else "")
    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Content-SHA256": kind,
        "X-Amz-Decoded-Content-Length": str(sum(map(len, chunks))),
    }
    if trailers:
        headers["X-Amz-Trailer"] = ",".join(trailers)
    request = AWSRequest("PUT", f"{url}/{BUCKET}/streamed", headers, b"")
    auth.add_auth(request)
    signer = Signer(key["aws_secret_access_key"], request.context["timestamp"], REGION, "s3")
    last = str(request.headers["Authorization"]).rpartition("=")[2]
    body = b""
    for chunk in [*chunks, b""]:
        last = signer.chunk(last, hashlib.sha256(chunk).hexdigest())
        body += f"{len(chunk):x};chunk-signature={changed.get('chunk', last)}\r\n".encode() + chunk
        body += b"\r\n" if chunk else b""
    if trailers:
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items()).encode()
        signed = changed.get("trailer", signer.trailer(last, lines))
        body += lines.replace(b"\n", b"\r\n") + f"x-amz-trailer-signature:{signed}\r\n".encode()
    answer = requests.put(
        request.url, body + b"\r\n", headers=dict(request.headers.items()), timeout=60
    )
    return answer.status_code, answer.text


def test_a_body_in_signed_chunks(server: Server, s3: Any) -> None:
    pieces, crc = [b"hello", b" you"], {"x-amz-checksum-crc32": "iOOe2w=="}
    assert chunked(server.url, pieces, {}) == (200, "")
    assert chunked(server.url, pieces, crc) == (200, "")
    found = s3.get_object(Bucket=BUCKET, Key="streamed", ChecksumMode="ENABLED")
    assert (found["Body"].read(), found["ChecksumCRC32"]) == (b"hello you", "iOOe2w==")
    status, text = chunked(server.url, pieces, {"x-amz-checksum-crc32": "AAAAAA=="})
    assert (status, "BadDigest" in text) == (400, True)
    for changed in ({"chunk": "0" * 64}, {"trailer": "0" * 64}):
        status, text = chunked(server.url, pieces, crc, **changed)
        assert (status, "SignatureDoesNotMatch" in text) == (403, True)
    assert server.services.objects.read(BUCKET, "streamed") == b"hello you"


def test_the_signed_chunks_of_awss_example() -> None:
    """S3's API reference, "Signature calculations … transferring payload in multiple chunks"."""
    signer = Signer(
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524T000000Z", "us-east-1", "s3"
    )
    seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    chunks = [
        (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]
    framed = b"".join(
        f"{size:x};chunk-signature={signed}\r\n".encode() + b"a" * size + b"\r\n"
        for size, signed in chunks
    )
    headers = {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": "66560",
    }
    upload = Upload(io.BytesIO(framed), headers, ChunkSignatures(signer, seed))
    assert len(b"".join(upload)) == 66560


def test_requests_with_session_credentials_are_accepted(server: Server) -> None:
    sts = client(server.url, "sts")
    role = "arn:aws:iam::123456789012:role/berth"
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="me")
    answers = [assumed, sts.get_session_token(), sts.get_federation_token(Name="you")]
    for keys in map(_keys, answers):
        other(server, "sagemaker", **keys).list_models()
        url = other(server, "s3", **keys).generate_presigned_url("list_buckets")
        assert requests.get(url, timeout=60).status_code == 200
        without = keys | {"aws_session_token": None}
        assert refused("s3", other(server, "s3", **without))[0] == "InvalidToken"
    me = other(server, "sts", **_keys(assumed)).get_caller_identity()["Arn"]
    assert me == "arn:aws:sts::123456789012:assumed-role/berth/me"


def _keys(answer: Any) -> dict[str, str]:
    given = answer["Credentials"]
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }


def test_a_users_key_of_the_local_iam(server: Server) -> None:
    iam = client(server.url, "iam")
    iam.create_user(UserName="me")
    made = iam.create_access_key(UserName="me")["AccessKey"]
    keys = {
        "aws_access_key_id": made["AccessKeyId"],
        "aws_secret_access_key": made["SecretAccessKey"],
    }
    other(server, "sagemaker", **keys).list_models()
    iam.update_access_key(UserName="me", AccessKeyId=made["AccessKeyId"], Status="Inactive")
    code, _ = refused("sagemaker", other(server, "sagemaker", **keys))
    assert code == "UnrecognizedClientException"
    published = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"}
    assert refused("s3", other(server, "s3", **published))[0] == "InvalidAccessKeyId"


def curl(url: str, *words: str, service: str = "s3") -> str:
    key = access_key(url)
    user = f"{key['aws_access_key_id']}:{key['aws_secret_access_key']}"
    signing = ("--aws-sigv4", f"aws:amz:{REGION}:{service}", "--user", user)
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *signing, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def test_curl(server: Server, s3: Any, tmp_path: Path) -> None:
    body = tmp_path / "body.txt"
    body.write_text("from curl")
    url = f"{server.url}/{BUCKET}"
    curl(server.url, "--upload-file", str(body), f"{url}/curl/body.txt")
    assert s3.get_object(Bucket=BUCKET, Key="curl/body.txt")["Body"].read() == b"from curl"
    assert curl(server.url, f"{url}/curl/body.txt") == "from curl"
    for asked in ("list-type=2&prefix=curl%2F", "prefix=curl/&list-type=2"):
        assert "<Key>curl/body.txt</Key>" in curl(server.url, f"{url}?{asked}")
    headers = (
        *("-H", "X-Amz-Target: SageMaker.ListTrainingJobs"),
        *("-H", "Content-Type: application/x-amz-json-1.1"),
    )
    answer = curl(server.url, *headers, "-d", "{}", server.url, service="sagemaker")
    assert json.loads(answer) == {"TrainingJobSummaries": []}
    nothing = subprocess.run(
        ["curl", "--silent", url], capture_output=True, text=True, check=True, timeout=30
    )
    assert "AccessDenied" in nothing.stdout


@pytest.mark.parametrize(
    "header",
    [
        "Bearer token",
        "Basic YTpi",
        "AWS4-HMAC-SHA256 nonsense",
        "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request",
        "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, "
        "SignedHeaders=x-amz-date, Signature=0",
        "AWS4-ECDSA-P256-SHA256 Credential=a/20260101/s3/aws4_request, "
        "SignedHeaders=host, Signature=0",
        "AWS a:b",
        "AWS4-HMAC-SHA256 Credential=\xff/20260101/us-east-1/s3/aws4_request, "
        "SignedHeaders=host, Signature=\xff",
    ],
)
def test_a_malformed_signature_is_refused(server: Server, header: str) -> None:
    headers: dict[str, str | bytes | None] = {
        "Authorization": header.encode("latin-1"),
        "X-Amz-Date": "20260101T000000Z",
    }
    answer = requests.get(server.url, headers=headers, timeout=60)
    assert answer.status_code in (400, 403), answer.text
    assert "<Code>" in answer.text


def test_two_signatures_are_refused(server: Server) -> None:
    signed = Signed(server.url, "sagemaker")

    def twice(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request = signed(request)
        theirs = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"
        request.headers["Authorization"] = f"{theirs}, {request.headers['Authorization']}"
        return request

    assert requests.get(server.url, auth=twice, timeout=60).status_code == 400


def test_dates_in_the_formats_of_requests() -> None:
    assert claims.seconds("20260102T030405Z") == claims.seconds("Fri, 02 Jan 2026 03:04:05 GMT")
    assert claims.seconds("yesterday") is claims.seconds("") is None


def test_each_home_has_its_own_key_that_other_users_cannot_read(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from local.emulator.credentials import credentials; "
        "from local.emulator.home import Home; "
        "print(credentials(Home.find(Path(sys.argv[1]))).secret)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "one")]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    secrets = {racer.communicate(timeout=60)[0].strip() for racer in racers}
    one, two = Home.find(tmp_path / "one"), Home.find(tmp_path / "two")
    assert secrets == {credentials(one).secret}
    assert credentials(one) != credentials(two)
    assert one.path.stat().st_mode & 0o777 == 0o700
    assert one.credentials_file.stat().st_mode & 0o777 == 0o600
    assert credentials(one).secret not in repr(credentials(one))
    session = boto3.Session(
        botocore_session=_session_of(one.credentials_file),
    )
    assert session.get_credentials().access_key == credentials(one).key_id


def _session_of(path: Path) -> Any:
    import botocore.session

    session = botocore.session.Session()
    session.set_config_variable("credentials_file", str(path))
    session.set_config_variable("profile", "default")
    return session


def test_every_path_is_signed_as_sent(server: Server, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="a b(1).txt", Body=b"x")
    for written in ("a%20b(1).txt", "a%20b%281%29.txt", quote("a b(1).txt")):
        answer = requests.get(
            f"{server.url}/{BUCKET}/{written}", auth=Signed(server.url), timeout=60
        )
        assert answer.content == b"x"

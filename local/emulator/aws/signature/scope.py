"""The service, region and operation of a request, from its signature, headers and URL."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

SCOPE = re.compile(r"Credential=[^/,\s]*/\d+/([^/]+)/([^/]+)/aws4_request")
"""`Credential=<key id>/<date>/<region>/<service>/aws4_request` of signature version 4."""
RUNTIME = re.compile("/endpoints/[^/]+/(async-)?invocations(-response-stream)?")
UNSIGNED_TARGETS = {
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "AmazonEC2ContainerRegistry_V20150921": "ecr",
    "GraniteServiceVersion20100801": "monitoring",
}
"""Prefix of `X-Amz-Target`, or path segment after `/service/` → signing name."""
SUBRESOURCES = {
    "acl": "Acl",
    "tagging": "Tagging",
    "retention": "Retention",
    "legal-hold": "LegalHold",
    "attributes": "Attributes",
    "restore": "Restore",
    "select": "Select",
    "torrent": "Torrent",
}
"""Subresources of S3 objects → their name in the operation."""


@dataclass(frozen=True)
class Scope:
    """The service's signing name and the region a request is signed for."""

    service: str
    region: str


def scope(environ: dict[str, Any]) -> Scope | None:
    """The scope of a request's signature, from its header or URL; None if it is not signed."""
    found = SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found is None and "X-Amz-Credential" in environ.get("QUERY_STRING", ""):
        credential = query(environ).get("X-Amz-Credential", [""])[0]
        found = SCOPE.search(f"Credential={credential}")
    return Scope(found[2].lower(), found[1]) if found else None


def service(environ: dict[str, Any]) -> str:
    """The signing name of a request's service, `sagemaker-runtime` for the runtime.

    For a request without a signature, it is derived from the header or URL, because each service
    has its own errors.
    """
    signed = scope(environ)
    path = str(environ.get("PATH_INFO", ""))
    found = signed.service if signed else UNSIGNED_TARGETS.get(_target(environ), "")
    if not found and "Action" in query(environ) | {_form(environ): []}:
        found = "sts"
    if not found and RUNTIME.fullmatch(path):
        found = "sagemaker"
    if found == "sagemaker" and path.startswith("/endpoints/"):
        return "sagemaker-runtime"
    return found or "s3"


def _target(environ: dict[str, Any]) -> str:
    target = str(environ.get("HTTP_X_AMZ_TARGET", "")).partition(".")[0]
    return target or str(environ.get("PATH_INFO", "")).partition("/service/")[2].partition("/")[0]


def _form(environ: dict[str, Any]) -> str:
    kind = str(environ.get("CONTENT_TYPE", ""))
    return "Action" if kind.startswith("application/x-www-form-urlencoded") else ""


def query(environ: dict[str, Any]) -> dict[str, list[str]]:
    """The parameters of the URL's query."""
    return parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)


def host_bucket(environ: dict[str, Any]) -> str | None:
    """The bucket in the host name of an S3 request; None if it is in the path."""
    host = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
    return host.removesuffix(".localhost") if host.endswith(".localhost") else None


def bucket_and_key(environ: dict[str, Any]) -> tuple[str, str]:
    """An S3 request's bucket and key, which may be empty; the bucket may be in the host name."""
    path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")
    named = host_bucket(environ)
    if named is not None:
        return named, path.removeprefix("/")
    bucket, _, key = path.removeprefix("/").partition("/")
    return bucket, key


def s3_operation(environ: dict[str, Any]) -> str:
    """The name of an S3 request's operation; rare ones may differ from S3's names."""
    method, parameters = environ["REQUEST_METHOD"], query(environ)
    bucket, key = bucket_and_key(environ)
    verb = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete", "POST": "Post"}.get(
        method, method
    )
    if not bucket:
        return "ListBuckets"
    if not key:
        return _bucket_operation(method, verb, parameters)
    if "uploadId" in parameters:
        return {
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
        }.get(method, "ListParts")
    if "uploads" in parameters:
        return "CreateMultipartUpload"
    if method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "CopyObject"
    about = next((name for word, name in SUBRESOURCES.items() if word in parameters), "")
    return f"{verb}Object{about}"


def _bucket_operation(method: str, verb: str, parameters: dict[str, list[str]]) -> str:
    if method == "POST" and "delete" in parameters:
        return "DeleteObjects"
    if method == "GET" and "list-type" in parameters:
        return "ListObjectsV2"
    about = next((word for word, values in parameters.items() if values == [""]), "")
    if about:
        return f"{verb}Bucket{about.title().replace('-', '')}"
    return {"PUT": "CreateBucket", "GET": "ListObjects", "POST": "PostObject"}.get(
        method, f"{verb}Bucket"
    )

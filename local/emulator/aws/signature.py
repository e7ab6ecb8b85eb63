"""Who a request is for, by its signature, and what it asks."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

SCOPE = re.compile(r"Credential=[^/,\s]*/\d+/([^/]+)/([^/]+)/aws4_request")
"""`Credential=<key id>/<date>/<region>/<service>/aws4_request` of signature version 4."""
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
"""S3's questions about an object that are not about its bytes."""


@dataclass(frozen=True)
class Scope:
    """The service's signing name and the region a request is signed for."""

    service: str
    region: str


def scope(environ: dict[str, Any]) -> Scope | None:
    """The scope of a request's signature, in its header or its URL; None when it has none."""
    found = SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found is None and "X-Amz-Credential" in environ.get("QUERY_STRING", ""):
        credential = query(environ).get("X-Amz-Credential", [""])[0]
        found = SCOPE.search(f"Credential={credential}")
    return Scope(found[2].lower(), found[1]) if found else None


def in_region(environ: dict[str, Any], region: str) -> dict[str, Any]:
    """The request as if it had been signed for another region; nobody checks the signature."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    found = SCOPE.search(header)
    if found is None:
        return environ
    moved = header[: found.start(1)] + region + header[found.end(1) :]
    return {**environ, "HTTP_AUTHORIZATION": moved}


def query(environ: dict[str, Any]) -> dict[str, list[str]]:
    """The URL's query."""
    return parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)


def bucket_and_key(environ: dict[str, Any]) -> tuple[str, str]:
    """An S3 request's bucket and key, either may be empty; the bucket may be in the host name."""
    path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")
    host = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
    if host.endswith(".localhost"):
        return host.removesuffix(".localhost"), path.removeprefix("/")
    bucket, _, key = path.removeprefix("/").partition("/")
    return bucket, key


def s3_operation(environ: dict[str, Any]) -> str:
    """A name for what an S3 request asks, S3's own wherever one rule gives it."""
    method, asked = environ["REQUEST_METHOD"], query(environ)
    bucket, key = bucket_and_key(environ)
    verb = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete", "POST": "Post"}.get(
        method, method
    )
    if not bucket:
        return "ListBuckets"
    if not key:
        return _bucket_operation(method, verb, asked)
    if "uploadId" in asked:
        return {
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
        }.get(method, "ListParts")
    if "uploads" in asked:
        return "CreateMultipartUpload"
    if method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "CopyObject"
    about = next((name for word, name in SUBRESOURCES.items() if word in asked), "")
    return f"{verb}Object{about}"


def _bucket_operation(method: str, verb: str, asked: dict[str, list[str]]) -> str:
    if method == "POST" and "delete" in asked:
        return "DeleteObjects"
    if method == "GET" and "list-type" in asked:
        return "ListObjectsV2"
    about = next((word for word, values in asked.items() if values == [""]), "")
    if about:
        return f"{verb}Bucket{about.title().replace('-', '')}"
    return {"PUT": "CreateBucket", "GET": "ListObjects", "POST": "PostObject"}.get(
        method, f"{verb}Bucket"
    )

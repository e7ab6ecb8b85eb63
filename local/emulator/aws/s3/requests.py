"""Parses S3 requests: bucket, key, query, headers, conditions, and the object's state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from werkzeug.datastructures import EnvironHeaders
from werkzeug.http import parse_date

from local.emulator.aws.s3.acl import from_headers
from local.emulator.aws.s3.store import Version
from local.emulator.aws.signature.scope import bucket_and_key, query
from local.emulator.errors import ServiceError

KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-website-redirect-location",
)
"""Headers of an upload that are returned with the object, besides `x-amz-meta-…`."""
METADATA = "x-amz-meta-"
METADATA_HEADERS = "berth.metadata"
"""The key of the `x-amz-meta-…` headers, in the client's spelling, in the WSGI environment."""
RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Environ = dict[str, Any]


@dataclass(frozen=True)
class S3Request:
    """An S3 request.

    Attributes:
        environ: the WSGI environment.
        region: the region that it is signed for.
        method: the HTTP method.
        bucket, key: its bucket and key; either may be empty.
        query: the first value of each of the query's parameters.
        headers: the HTTP headers, by lower-case name.
    """

    environ: Environ
    region: str
    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, environ: Environ, region: str) -> "S3Request":
        """Build a request from a WSGI environment."""
        bucket, key = bucket_and_key(environ)
        first = {name: values[0] for name, values in query(environ).items()}
        headers = {name.lower(): value for name, value in EnvironHeaders(environ)}
        return cls(environ, region, environ["REQUEST_METHOD"], bucket, key, first, headers)

    @property
    def version(self) -> str | None:
        """The version ID in the query."""
        return self.query.get("versionId")

    def number(self, name: str, default: int) -> int:
        """An integer in the query.

        Raises:
            ServiceError: it is not an integer.
        """
        text = self.query.get(name) or str(default)
        if not text.isascii() or not text.isdigit():
            raise ServiceError("InvalidArgument", f"{name}: found {text!r}, expected a number")
        return int(text)

    def body(self) -> bytes:
        """The whole body, which must fit in memory."""
        return bytes(self.environ["wsgi.input"].read())

    def state(self) -> dict[str, Any]:
        """The state of an object from the headers (see `Version`)."""
        others = {k: v for k, v in self.headers.items() if not k.startswith(METADATA)}
        return object_state(others | self.environ[METADATA_HEADERS])

    def source(self) -> tuple[str, str, str | None]:
        """The bucket, key and version ID of the copy source.

        Raises:
            ServiceError: the header is invalid.
        """
        path, _, version = self.headers["x-amz-copy-source"].partition("?versionId=")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        if not key:
            raise ServiceError(
                "InvalidArgument", f"x-amz-copy-source: found {path!r}, expected <bucket>/<key>"
            )
        return bucket, key, version or None


def object_state(fields: Mapping[str, str]) -> dict[str, Any]:
    """The state of an object from headers or form fields, by lower-case name.

    Raises:
        ServiceError: a value is invalid.
    """
    metadata = {name: fields[name] for name in KEPT_HEADERS if fields.get(name)}
    metadata |= {name: value for name, value in fields.items() if name.startswith(METADATA)}
    encodings = [part.strip() for part in metadata.pop("content-encoding", "").split(",")]
    if kept := ",".join(part for part in encodings if part and part != "aws-chunked"):
        metadata["content-encoding"] = kept
    state = {
        "metadata": metadata,
        "storage": fields.get("x-amz-storage-class"),
        "tags": dict(parse_qsl(fields.get("x-amz-tagging", ""), keep_blank_values=True)),
        "acl": from_headers(fields),
    }
    return {name: value for name, value in state.items() if value}


def byte_range(text: str, size: int) -> tuple[int, int] | None:
    """Parse a Range header to its start and exclusive end; None for the whole object.

    Raises:
        ServiceError: InvalidRange, it is outside the object.
    """
    found = RANGE.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None  # also for several ranges: S3 returns the whole object
    first, last = found.groups()
    if first:
        begin, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < begin:
            return None
    else:
        begin, end = max(size - int(last), 0), size
    if begin >= end:
        raise ServiceError("InvalidRange", "The requested range is not satisfiable", 416)
    return begin, end


def check_conditions(
    headers: Mapping[str, str], version: Version, prefix: str = "", *, copying: bool = False
) -> bool:
    """Check the conditions of a read; return False if the client already has the object.

    "Conditional reads" in the S3 user guide, RFC 9110 section 13.2.2.

    Args:
        headers: the request's headers.
        version: the object.
        prefix: prefix of the headers' names, `x-amz-copy-source-` for a copy source.
        copying: raise instead of returning False.

    Raises:
        ServiceError: PreconditionFailed.
    """
    match, none_match = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-none-match")
    since = _seconds(headers.get(f"{prefix}if-modified-since"))
    until = _seconds(headers.get(f"{prefix}if-unmodified-since"))
    modified = int(version.modified)
    if match is not None:
        if not _matches(match, version):
            raise precondition_failed("If-Match")
    elif until is not None and modified > until:
        raise precondition_failed("If-Unmodified-Since")
    if none_match is not None:
        unchanged = _matches(none_match, version)
    else:
        unchanged = since is not None and modified <= since
    if unchanged and copying:
        raise precondition_failed("If-None-Match")
    return not unchanged


def check_write(headers: Mapping[str, str], current: Version | None) -> None:
    """Check the conditions of a write ("Conditional writes" in the S3 user guide).

    Raises:
        ServiceError: PreconditionFailed; NoSuchKey if there is no object to match.
    """
    exists = current is not None and current.content is not None
    if headers.get("if-none-match") == "*" and exists:
        raise precondition_failed("If-None-Match")
    match = headers.get("if-match")
    if match is None:
        return
    if current is None or not exists:
        raise no_such_key()
    if not _matches(match, current):
        raise precondition_failed("If-Match")


def precondition_failed(condition: str) -> ServiceError:
    """The error for a condition that does not hold."""
    return ServiceError(
        "PreconditionFailed",
        f"At least one of the pre-conditions you specified did not hold: {condition}",
        412,
    )


def no_such_key() -> ServiceError:
    """The error for a missing object."""
    return ServiceError("NoSuchKey", "The specified key does not exist.", 404)


def _matches(etags: str, version: Version) -> bool:
    named = {etag.strip().removeprefix("W/").strip('"') for etag in etags.split(",")}
    return "*" in named or version.etag in named


def _seconds(date: str | None) -> float | None:
    """Parse an HTTP date; None if it is missing or invalid."""
    moment = parse_date(date)
    return moment.timestamp() if moment else None

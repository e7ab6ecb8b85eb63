"""Computes AWS signatures of versions 4 and 2 from a received request.

Version 4: "AWS Signature Version 4 for API requests" in the IAM user guide; its chunks: "Signature
calculations for the Authorization header: transferring payload in multiple chunks" in the S3 API
reference. Version 2, which boto3 still uses for presigned S3 URLs: "Signing and authenticating REST
requests" in the S3 developer guide. botocore computes the parts that are the same in a client.
"""

import hashlib
import hmac
import itertools
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from botocore.auth import HmacV1Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from botocore.utils import normalize_url_path

UNRESERVED = "-_.~"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()

Environ = dict[str, Any]


class Signer:
    """Signs with one secret in one credential scope, at one time.

    Args:
        secret: the secret access key.
        timestamp: the request's time, `20260102T030405Z`.
        region: of the credential scope.
        service: of the credential scope.
    """

    def __init__(self, secret: str, timestamp: str, region: str, service: str) -> None:
        self._auth = SigV4Auth(Credentials("", secret), service, region)
        self._request = AWSRequest()
        self._request.context["timestamp"] = timestamp
        self._timestamp, self._service = timestamp, service

    def sign(self, text: str) -> str:
        """Sign a string to sign, or a form's policy."""
        return str(self._auth.signature(text, self._request))

    def request_signatures(
        self, environ: Environ, headers: Iterable[str], payloads: Iterable[str]
    ) -> Iterator[str]:
        """The signatures of a request, one for each possible encoding of its URL.

        Clients differ in the characters that they encode (`~`, `+`, `(`), and AWS accepts all of
        them; the usual encoding is first.

        Args:
            environ: the request.
            headers: names of the signed headers, in lower case.
            payloads: possible values of the body's hash.
        """
        signed = HTTPHeaders()
        for name in headers:
            signed[name] = header(environ, name)
        lines = f"{self._auth.canonical_headers(signed)}\n\n{self._auth.signed_headers(signed)}"
        ways = itertools.product(
            payloads, _paths(environ, self._service), dict.fromkeys(_queries(environ))
        )
        for payload, path, parameters in ways:
            canonical = f"{environ['REQUEST_METHOD']}\n{path}\n{parameters}\n{lines}\n{payload}"
            yield self.sign(self._auth.string_to_sign(self._request, canonical))

    def chunk(self, before: str, hashed: str) -> str:
        """The signature of a chunk; `before` is the previous signature, `hashed` its SHA-256."""
        return self._part("PAYLOAD", before, EMPTY_HASH, hashed)

    def trailer(self, before: str, lines: bytes) -> str:
        """The signature of a chunked body's trailer, whose lines all end in a newline."""
        return self._part("TRAILER", before, hashlib.sha256(lines).hexdigest())

    def _part(self, kind: str, *lines: str) -> str:
        scope = self._auth.credential_scope(self._request)
        return self.sign("\n".join((f"AWS4-HMAC-SHA256-{kind}", self._timestamp, scope, *lines)))


def same(computed: Iterable[str], given: str) -> bool:
    """Whether one of the signatures equals the given one, compared in constant time."""
    return any(hmac.compare_digest(one.encode(), given.encode()) for one in computed)


def version_2(secret: str, text: str) -> str:
    """The version 2 signature of a string to sign."""
    return str(HmacV1Auth(Credentials("", secret)).sign_string(text))


def version_2_requests(environ: Environ, date: str, bucket: str | None) -> Iterator[str]:
    """The strings to sign of a version 2 request, one for each possible encoding of its path.

    Args:
        environ: the request.
        date: its Date header, empty if it has X-Amz-Date, or the `Expires` of its URL.
        bucket: the bucket in its host name; None if it is in the path.
    """
    auth = HmacV1Auth(Credentials("", ""))
    parameters = environ.get("QUERY_STRING", "")
    amazon = HTTPHeaders()
    for name, value in _amazon(environ).items():
        amazon[name] = value
    lines = [environ["REQUEST_METHOD"]]
    lines += [header(environ, name).strip() for name in ("content-md5", "content-type")]
    lines += [date, *([auth.canonical_custom_headers(amazon)] if amazon.keys() else [])]
    prefix = f"/{bucket}" if bucket is not None else ""
    raw = raw_path(environ)
    for path in dict.fromkeys((raw, _encoded(raw, "/" + UNRESERVED))):
        split = urlsplit(f"http://host{path}?{parameters}")
        yield "\n".join((*lines, auth.canonical_resource(split, auth_path=prefix + path)))


def header(environ: Environ, name: str) -> str:
    """A request's header as sent by the client; empty if it is missing."""
    key = name.upper().replace("-", "_")
    found = environ.get(f"HTTP_{key}")
    if found is None and key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        found = environ.get(key)
    text = str(found or "")
    try:
        return text.encode("latin-1").decode()  # WSGI decodes Latin-1, clients send UTF-8
    except UnicodeError:
        return text


def amazon_headers(environ: Environ) -> set[str]:
    """The names of a request's `x-amz-…` headers, in lower case."""
    return {
        name.removeprefix("HTTP_").replace("_", "-").lower()
        for name in environ
        if name.startswith("HTTP_X_AMZ_")
    }


def raw_path(environ: Environ) -> str:
    """The path as received, still encoded."""
    raw = str(environ.get("RAW_URI") or quote(environ.get("PATH_INFO", ""), encoding="latin-1"))
    if "://" in raw.partition("?")[0] and not raw.startswith("/"):
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    return raw.partition("?")[0] or "/"


def _amazon(environ: Environ) -> dict[str, str]:
    """The `x-amz-…` headers, which a presigned URL has in the query."""
    found = {
        name.lower(): unquote_to_bytes(value.replace("+", " ")).decode(errors="replace")
        for name, value in _pairs(environ)
        if name.lower().startswith("x-amz-")
    }
    return found | {name: header(environ, name) for name in amazon_headers(environ)}


def _pairs(environ: Environ) -> list[tuple[str, str]]:
    parameters = environ.get("QUERY_STRING", "")
    pairs = (pair.partition("=") for pair in parameters.split("&") if pair)
    return [(name, value) for name, _, value in pairs if name != "X-Amz-Signature"]


def _paths(environ: Environ, service: str) -> Iterator[str]:
    raw = raw_path(environ)
    if service == "s3":
        yield raw
        yield _encoded(raw, "/" + UNRESERVED)
        return
    normal = normalize_url_path(raw)
    yield quote(normal, safe="/~")  # every service but S3 encodes twice
    yield normal


def _queries(environ: Environ) -> Iterator[str]:
    pairs = _pairs(environ)
    for space in ("%20", "%2B"):
        yield _joined(
            (_encoded(name.replace("+", space)), _encoded(value.replace("+", space)))
            for name, value in pairs
        )
    yield _joined(pairs)
    if "X-Amz-Signature" not in environ.get("QUERY_STRING", ""):
        yield str(environ.get("QUERY_STRING", ""))  # curl before 8 does not sort it


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encoded(text: str, safe: str = UNRESERVED) -> str:
    return quote(unquote_to_bytes(text), safe=safe)

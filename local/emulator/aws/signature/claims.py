"""Parses the signature in a request's header or URL."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from local.emulator.aws.signature.scope import Scope, query, scope

ALGORITHM = "AWS4-HMAC-SHA256"
TIMESTAMP = "%Y%m%dT%H%M%SZ"
WEEK = 7 * 24 * 3600

Environ = dict[str, Any]


class Malformed(Exception):
    """A signature is malformed; the message is one line."""

    def __init__(self, message: str, *, in_url: bool = False) -> None:
        super().__init__(message)
        self.in_url = in_url


@dataclass(frozen=True)
class Claim:
    """A signature of version 4, or of version 2 where `scope` is None.

    Attributes:
        key_id: ID of the access key.
        signature: the signature.
        time: when it was signed, as in the request; empty in a URL of version 2.
        scope: the service and region.
        day: the date of the credential scope.
        headers: names of the signed headers, in lower case.
        lifetime: seconds that a presigned URL is valid; None in a header.
        end: when a presigned URL of version 2 expires, as a string of UTC seconds.
        token: the session token, if there is one.
    """

    key_id: str
    signature: str
    time: str
    scope: Scope | None = None
    day: str = ""
    headers: tuple[str, ...] = ()
    lifetime: int | None = None
    end: str | None = None
    token: str | None = None


def claim(environ: Environ) -> Claim | None:
    """Parse a request's signature; None if it is not signed.

    Raises:
        Malformed: it cannot be parsed.
    """
    parameters = {name: values[0] for name, values in query(environ).items()}
    authorization = str(environ.get("HTTP_AUTHORIZATION", "")).strip()
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN") or parameters.get("X-Amz-Security-Token")
    if authorization:
        return _in_header(environ, authorization, token)
    if parameters.keys() & {"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Algorithm"}:
        return _in_url(environ, parameters, token)
    if parameters.keys() >= {"AWSAccessKeyId", "Signature"}:
        if not parameters.get("Expires", "").isdigit():
            raise Malformed("Query-string authentication requires Expires, in seconds", in_url=True)
        token = token or parameters.get("x-amz-security-token")
        return Claim(
            parameters["AWSAccessKeyId"],
            parameters["Signature"],
            "",
            end=parameters["Expires"],
            token=token,
        )
    return None


def _in_header(environ: Environ, authorization: str, token: str | None) -> Claim:
    algorithm, _, rest = authorization.partition(" ")
    time = environ.get("HTTP_X_AMZ_DATE") or environ.get("HTTP_DATE", "")
    if algorithm == "AWS":
        key_id, _, signed = rest.strip().partition(":")
        return Claim(key_id, signed, time, token=token)
    if algorithm != ALGORITHM:
        raise Malformed(f"Authorization: found {algorithm[:40]!r}, expected {ALGORITHM}")
    pairs = [part.strip().partition("=") for part in rest.split(",")]
    parts = {name: value for name, _, value in pairs}
    if len(pairs) != 3 or parts.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise Malformed(
            f"Authorization: found {', '.join(sorted(parts))}, expected Credential, SignedHeaders "
            "and Signature, once each"
        )
    return _claim(environ, parts, time, None, token)


def _in_url(environ: Environ, parameters: dict[str, str], token: str | None) -> Claim:
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    missing = [name for name in names if not parameters.get(f"X-Amz-{name}")]
    if missing and missing != ["Expires"]:
        raise Malformed(f"X-Amz-{missing[0]}: missing in the URL's query", in_url=True)
    if parameters["X-Amz-Algorithm"] != ALGORITHM:
        raise Malformed(f"X-Amz-Algorithm: expected {ALGORITHM}", in_url=True)
    expires = parameters.get("X-Amz-Expires", "900")
    if not expires.isascii() or not expires.isdigit():
        raise Malformed(
            f"X-Amz-Expires: found {expires!r}, expected a number of seconds", in_url=True
        )
    if int(expires) > WEEK:
        raise Malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given "
            f"X-Amz-Expires must be less than {WEEK} seconds",
            in_url=True,
        )
    parts = {
        name: parameters[f"X-Amz-{name}"] for name in ("Credential", "SignedHeaders", "Signature")
    }
    return _claim(environ, parts, parameters["X-Amz-Date"], int(expires), token)


def _claim(
    environ: Environ, parts: dict[str, str], time: str, lifetime: int | None, token: str | None
) -> Claim:
    in_url = lifetime is not None
    credential = parts["Credential"].split("/")
    found = scope(environ)
    if found is None or len(credential) != 5 or credential[4] != "aws4_request":
        raise Malformed(
            "Credential: expected <key id>/<date>/<region>/<service>/aws4_request", in_url=in_url
        )
    if (credential[3].lower(), credential[2]) != (found.service, found.region):
        raise Malformed("Credential: more than one is given", in_url=in_url)
    headers = tuple(parts["SignedHeaders"].lower().split(";"))
    if "host" not in headers:
        raise Malformed("SignedHeaders: the Host header must be signed", in_url=in_url)
    if not time:
        raise Malformed("X-Amz-Date or Date: missing", in_url=in_url)
    return Claim(
        credential[0],
        parts["Signature"],
        time,
        Scope(credential[3], credential[2]),
        credential[1],
        headers,
        lifetime,
        token=token,
    )


def seconds(text: str) -> float | None:
    """Parse a request's date to UTC seconds; None if it is invalid."""
    try:
        return datetime.strptime(text, TIMESTAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""Presigned POST: an HTML form that uploads one object, if its signed policy allows it.

"POST policy" in the S3 API reference.
"""

import base64
import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any

from werkzeug.formparser import FormDataParser

from local.emulator.aws.signature import claims, signing
from local.emulator.aws.signature.chunked import BLOCK
from local.emulator.aws.signature.keys import Key
from local.emulator.aws.signature.refusals import Refusals
from local.emulator.aws.signature.scope import bucket_and_key
from local.emulator.errors import ServiceError

IN_MEMORY = 8 * 1024 * 1024
KEPT = "berth.kept"
"""The key of the body's temporary file in the WSGI environment, to be closed after the response."""
UNCHECKED = {
    "awsaccesskeyid",
    "file",
    "policy",
    "signature",
    "submit",
    "x-amz-signature",
}
"""Fields that a policy need not name; also those that begin with `x-ignore-`."""

Environ = dict[str, Any]


def check_form(
    environ: Environ,
    find: Callable[[str, str | None, Refusals], Key],
    refusals: Refusals,
    now: float,
) -> None:
    """Check a form's signature and policy; its body can still be read afterwards.

    Args:
        environ: the request.
        find: returns the key with an ID and a session token, or raises.
        refusals: the errors for this request.
        now: the current time, UTC seconds.

    Raises:
        ServiceError: it is rejected.
    """
    fields, size = _read(environ)
    policy = fields.get("policy", "")
    if not policy:
        raise refusals.unsigned()
    version_4 = "x-amz-signature" in fields
    credential = fields.get("x-amz-credential", "").split("/")
    if version_4:
        if len(credential) != 5:
            raise claims.Malformed("x-amz-credential: expected <key id>/<date>/<region>/s3/…")
        key = find(credential[0], fields.get("x-amz-security-token"), refusals)
        moment = claims.seconds(fields.get("x-amz-date", ""))
        timestamp = "" if moment is None else fields["x-amz-date"]
        if credential[1] != timestamp[:8]:
            raise claims.Malformed("x-amz-date: expected the day of x-amz-credential")
        signer = signing.Signer(key.secret, timestamp, credential[2], credential[3])
        computed, given = signer.sign(policy), fields["x-amz-signature"]
    else:
        key = find(fields.get("awsaccesskeyid", ""), fields.get("x-amz-security-token"), refusals)
        computed, given = signing.version_2(key.secret, policy), fields.get("signature", "")
    if not signing.same([computed], given):
        raise refusals.wrong_signature()
    bucket, _ = bucket_and_key(environ)
    _check_policy(_decode(policy), fields | {"bucket": bucket}, size, now)


def _read(environ: Environ) -> tuple[dict[str, str], int]:
    """The form's fields by lower-case name, and the size of its file; the body is kept."""
    kept: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
    environ[KEPT] = kept
    length = 0
    while block := environ["wsgi.input"].read(BLOCK):
        kept.write(block)
        length += len(block)
    kept.seek(0)
    replace_body(environ, kept, length)
    _, form, files = FormDataParser(silent=True).parse_from_environ(environ)
    size = 0
    for file in files.values():
        size = file.stream.seek(0, 2)
        file.close()
    fields = {name.lower(): value for name, value in form.items()}
    if "file" in fields:
        size = len(fields["file"].encode())
    if "file" in files and "${filename}" in fields.get("key", ""):
        name = files["file"].filename or ""
        fields["key"] = fields["key"].replace("${filename}", name)
    kept.seek(0)
    return fields, size


def replace_body(environ: Environ, body: IO[bytes], length: int) -> None:
    """Replace a request's body with one that has been read."""
    environ["wsgi.input"] = body
    environ["CONTENT_LENGTH"] = str(length)
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("wsgi.input_terminated", None)


def _decode(policy: str) -> Mapping[str, Any]:
    try:
        decoded = json.loads(base64.b64decode(policy))
        if isinstance(decoded, dict) and isinstance(decoded.get("conditions"), list):
            return decoded
    except ValueError:
        pass
    raise ServiceError(
        "InvalidPolicyDocument",
        "The content of the form does not meet the conditions specified in the policy document: "
        "expected a JSON object with expiration and conditions.",
    )


def _check_policy(
    policy: Mapping[str, Any], fields: Mapping[str, str], size: int, now: float
) -> None:
    try:
        end = datetime.fromisoformat(str(policy["expiration"]))
    except (KeyError, ValueError):
        raise ServiceError(
            "InvalidPolicyDocument", "Invalid Policy: Invalid 'expiration' value."
        ) from None
    if (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() < now:
        raise _denied("Policy expired.")
    named = {"bucket"}
    for condition in policy["conditions"]:
        named.add(_check_condition(condition, fields, size))
    for name in fields:
        if name not in named | UNCHECKED and not name.startswith("x-ignore-"):
            raise _denied(f"Extra input fields: {name}")


def _check_condition(condition: Any, fields: Mapping[str, str], size: int) -> str:
    """Check a condition, and return its field in lower case."""
    if isinstance(condition, dict) and len(condition) == 1:
        ((name, value),) = condition.items()
        condition = ["eq", f"${name}", value]
    if not isinstance(condition, list) or len(condition) != 3:
        raise ServiceError(
            "InvalidPolicyDocument", f"Invalid Policy: Invalid condition {condition!r}."
        )
    operator, subject, value = str(condition[0]).lower(), condition[1], condition[2]
    if operator == "content-length-range":
        return _check_size(condition, size)
    name = str(subject).removeprefix("$").lower()
    found = fields.get(name, "")
    good = {"eq": found == str(value), "starts-with": found.startswith(str(value))}
    if not good.get(operator, False):
        raise _denied(f"Policy Condition failed: {json.dumps(condition)}")
    return name


def _check_size(condition: list[Any], size: int) -> str:
    try:
        low, high = int(condition[1]), int(condition[2])
    except (TypeError, ValueError):
        raise ServiceError(
            "InvalidPolicyDocument", f"Invalid Policy: Invalid condition {condition!r}."
        ) from None
    if size < low:
        raise ServiceError(
            "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size"
        )
    if size > high:
        raise ServiceError(
            "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size."
        )
    return "content-length-range"


def _denied(why: str) -> ServiceError:
    return ServiceError("AccessDenied", f"Invalid according to Policy: {why}", 403)

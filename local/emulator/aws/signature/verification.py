"""Verifies requests: the access key, the time, the signature and the body's hash."""

import contextlib
import hashlib
import io
import re
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

from werkzeug.wsgi import get_input_stream

from local.emulator.aws.signature import claims, signing
from local.emulator.aws.signature.chunked import BLOCK, CHUNKS, STREAMING, ChunkSignatures, Upload
from local.emulator.aws.signature.keys import Key, Keys
from local.emulator.aws.signature.post_policy import KEPT, check_form, replace_body
from local.emulator.aws.signature.refusals import Refusals
from local.emulator.aws.signature.scope import SUBRESOURCES, bucket_and_key, host_bucket, query
from local.emulator.errors import ServiceError
from local.partitions import is_region

S3_SKEW = 15 * 60
"""Largest difference of a client's clock, in seconds (S3 API reference, "RequestTimeTooSkewed")."""
SKEW = 5 * 60
"""The same for other services (from their message "Signature expired … - 5 min.")."""
LONGEST = 64 * 1024 * 1024
"""Largest body, in bytes, that is read before the signature is checked; objects may be larger."""
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = f"{STREAMING}AWS4-"
HASH = re.compile("[0-9a-f]{64}")
NEED_NOT_BE_SIGNED = {
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-user-agent",
}
"""The `x-amz-…` headers that the signature covers in another way, or that have no effect."""

Environ = dict[str, Any]


class Verification:
    """Accepts requests that are signed with a valid key.

    Args:
        keys: the keys.
        clock: returns UTC seconds.
    """

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock = keys, clock

    def check(self, environ: Environ, service: str) -> None:
        """Verify a request; its body can still be read afterwards.

        An object's body is not read yet: `Upload` verifies it while it is received.

        Args:
            environ: the request.
            service: the service's signing name, `sagemaker-runtime` for the runtime.

        Raises:
            ServiceError: it is rejected, with the service's error.
        """
        refusals = Refusals(environ, service)
        environ["wsgi.input"] = get_input_stream(environ)
        try:
            self._check(environ, service, refusals)
        except claims.Malformed as error:
            raise refusals.malformed(str(error), in_url=error.in_url) from None
        except UnicodeError:
            raise refusals.wrong_signature() from None

    def _check(self, environ: Environ, service: str, refusals: Refusals) -> None:
        claim = claims.claim(environ)
        if claim is None:
            if service == "s3" and environ["REQUEST_METHOD"] == "OPTIONS":
                return  # a browser's CORS preflight is never signed
            if service == "s3" and _is_form(environ):
                check_form(environ, self._key, refusals, self._clock())
                return
            raise refusals.unsigned()
        key = self._key(claim.key_id, claim.token, refusals)
        if claim.scope is None:
            self._check_version_2(environ, claim, key, refusals, service)
        else:
            self._check_version_4(environ, claim, key, refusals, service)

    def _key(self, key_id: str, token: str | None, refusals: Refusals) -> Key:
        key = self._keys.find(key_id)
        if key is None:
            raise refusals.unknown_key()
        if (token or None) != key.token:
            raise refusals.wrong_token()
        if key.end is not None and key.end < self._clock():
            raise refusals.ended_session()
        return key

    def _check_version_4(
        self, environ: Environ, claim: claims.Claim, key: Key, refusals: Refusals, service: str
    ) -> None:
        assert claim.scope is not None  # noqa: S101 - for mypy
        if claim.scope.service != service.replace("sagemaker-runtime", "sagemaker"):
            raise refusals.wrong_signature(
                f"Credential should be scoped to correct service: {service!r}."
            )
        if not is_region(claim.scope.region):
            raise refusals.wrong_signature(
                f"Credential should be scoped to a valid region, not {claim.scope.region!r}."
            )
        moment = claims.seconds(claim.time)
        if moment is None:
            raise claims.Malformed(
                f"X-Amz-Date: found {claim.time!r}, expected 20260102T030405Z",
                in_url=claim.lifetime is not None,
            )
        self._check_time(moment, claim.lifetime, refusals, S3_SKEW if service == "s3" else SKEW)
        timestamp = _timestamp(moment)
        if claim.day != timestamp[:8]:
            raise refusals.wrong_signature(
                f"Date in Credential scope does not match YYYYMMDD from the request's date: found "
                f"{claim.day}, expected {timestamp[:8]}."
            )
        signer = signing.Signer(key.secret, timestamp, claim.scope.region, claim.scope.service)
        declared = _declared(environ, claim)
        is_object = service == "s3" and _is_object(environ)
        payloads = [declared or ""]
        if declared is None:
            payloads = [_hash_body(environ, None if is_object else LONGEST, refusals)]
            if service == "s3":
                payloads.append(signing.EMPTY_HASH)  # curl before 8 signs uploads with it
        computed = signer.request_signatures(environ, claim.headers, payloads)
        if not signing.same(computed, claim.signature):
            raise refusals.wrong_signature()
        if service == "s3":
            self._check_all_signed(environ, claim.headers)
        if (declared or "").startswith(SIGNED_CHUNKS):
            environ[CHUNKS] = ChunkSignatures(signer, claim.signature)
        if declared is not None:
            environ["HTTP_X_AMZ_CONTENT_SHA256"] = declared
            if not is_object:
                _check_body(environ, declared, refusals)

    def _check_version_2(
        self, environ: Environ, claim: claims.Claim, key: Key, refusals: Refusals, service: str
    ) -> None:
        if service != "s3":
            raise refusals.malformed("expected signature version 4", in_url=False)
        date = claim.time
        if claim.end is not None:
            if int(claim.end) < self._clock():
                raise refusals.expired()
            date = claim.end
        else:
            moment = claims.seconds(claim.time)
            if moment is None:
                raise ServiceError(
                    "AccessDenied", "AWS authentication requires a valid Date or x-amz-date", 403
                )
            self._check_time(moment, None, refusals, S3_SKEW)
            date = "" if environ.get("HTTP_X_AMZ_DATE") else date
        texts = signing.version_2_requests(environ, date, host_bucket(environ))
        computed = (signing.version_2(key.secret, text) for text in texts)
        if not signing.same(computed, claim.signature):
            raise refusals.wrong_signature()
        if not _is_object(environ):
            _check_body(environ, UNSIGNED, refusals)

    def _check_time(
        self, moment: float, lifetime: int | None, refusals: Refusals, skew: float
    ) -> None:
        now = self._clock()
        message = f"signed at {_timestamp(moment)}, it is {_timestamp(now)}"
        if lifetime is not None:
            if moment > now + skew:
                raise refusals.expired(f"Request is not valid yet: {message}")
            if moment + lifetime < now:
                raise refusals.expired()
        elif moment < now - skew:
            raise refusals.wrong_clock(
                f"Signature expired: {message}, {skew / 60:.0f} min. allowed"
            )
        elif moment > now + skew:
            raise refusals.wrong_clock(
                f"Signature not yet current: {message}, {skew / 60:.0f} min. allowed"
            )

    def _check_all_signed(self, environ: Environ, signed: tuple[str, ...]) -> None:
        """Reject unsigned headers, which could change the effect of a presigned URL."""
        known = {name.replace("_", "-") for name in signed}  # WSGI does not distinguish the two
        names = signing.amazon_headers(environ) - known - NEED_NOT_BE_SIGNED
        if names:
            raise ServiceError(
                "AccessDenied",
                "There were headers present in the request which were not signed: "
                f"{', '.join(sorted(names))}",
                403,
            )


def drain(environ: Environ) -> None:
    """Read the rest of a rejected request's body: a client reads no response while it sends."""
    with contextlib.suppress(Exception):
        while environ["wsgi.input"].read(BLOCK):
            pass


def forget_body(environ: Environ) -> None:
    """Close the temporary file of a body, if any, after the response."""
    if KEPT in environ:
        environ[KEPT].close()


def _timestamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(claims.TIMESTAMP)


def _declared(environ: Environ, claim: claims.Claim) -> str | None:
    """The declared hash of the body, or a constant such as UNSIGNED-PAYLOAD; None if missing."""
    declared = str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")).strip()
    if claim.lifetime is None:
        return declared or None
    if declared and "x-amz-content-sha256" in claim.headers:
        return declared
    parameters = query(environ).get("X-Amz-Content-Sha256", [""])[0]
    if parameters:
        return parameters
    s3 = claim.scope is not None and claim.scope.service == "s3"
    return UNSIGNED if s3 else None


def _is_object(environ: Environ) -> bool:
    """Whether the body is that of an object or part, which may have any size."""
    return (
        environ["REQUEST_METHOD"] == "PUT"
        and bool(bucket_and_key(environ)[1])
        and "HTTP_X_AMZ_COPY_SOURCE" not in environ
        and not SUBRESOURCES.keys() & query(environ).keys()
    )


def _is_form(environ: Environ) -> bool:
    kind = str(environ.get("CONTENT_TYPE", ""))
    return environ["REQUEST_METHOD"] == "POST" and kind.startswith("multipart/form-data")


def _hash_body(environ: Environ, most: int | None, refusals: Refusals) -> str:
    """Hash the body, and keep it in memory, or in a file if its size is not limited."""
    hashing, length = hashlib.sha256(), 0
    kept: IO[bytes] = io.BytesIO()
    if most is None:
        kept = environ[KEPT] = tempfile.SpooledTemporaryFile(max_size=LONGEST)  # noqa: SIM115
    while block := environ["wsgi.input"].read(BLOCK):
        hashing.update(block)
        length += len(block)
        if most is not None and length > most:
            raise refusals.too_long(most)
        kept.write(block)
    kept.seek(0)
    replace_body(environ, kept, length)
    return hashing.hexdigest()


def _check_body(environ: Environ, declared: str, refusals: Refusals) -> None:
    if declared.startswith(STREAMING):
        body = b"".join(Upload.of(environ))
        replace_body(environ, io.BytesIO(body), len(body))
        return
    computed = _hash_body(environ, LONGEST, refusals)
    if declared != UNSIGNED and declared != computed:
        if not HASH.fullmatch(declared):
            raise refusals.malformed(
                f"x-amz-content-sha256 must be {UNSIGNED}, {STREAMING}… or a valid sha256 value",
                in_url=False,
            )
        raise refusals.other_bytes()

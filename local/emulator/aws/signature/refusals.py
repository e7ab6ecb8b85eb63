"""What AWS answers to a request that it does not let in, in the words of each protocol.

Codes and statuses: "Error responses" in the S3 API reference, "Common errors" in those of IAM, STS
and SageMaker; JSON services answer 400 where REST ones answer 403.
"""

from typing import Any

from local.emulator.errors import ServiceError

HINT = "the access key of this machine's SageMaker is what `berth env` prints"
TOKEN = f"The security token included in the request is invalid: {HINT}."
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your "
    f"AWS Secret Access Key and signing method: {HINT}."
)

Environ = dict[str, Any]


class Refusals:
    """The refusals of one request: they depend on the protocol its client speaks.

    Args:
        environ: the request.
        service: the service's signing name, `sagemaker-runtime` for the runtime.
    """

    def __init__(self, environ: Environ, service: str) -> None:
        form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
        self._s3 = service == "s3"
        self._query = not self._s3 and (form or service in ("iam", "sts"))
        self._json_status = 403 if service == "sagemaker-runtime" else 400

    def unsigned(self) -> ServiceError:
        """Nobody signed it."""
        said = f"Request is missing Authentication Token: {HINT}."
        return self._choose(
            ServiceError("AccessDenied", f"Access Denied: nobody signed this; {HINT}.", 403),
            ServiceError("MissingAuthenticationToken", said, 403),
            ServiceError("MissingAuthenticationTokenException", said, 403),
        )

    def unknown_key(self) -> ServiceError:
        """No access key has this ID."""
        said = f"The AWS Access Key Id you provided does not exist in our records: {HINT}."
        return self._choose(
            ServiceError("InvalidAccessKeyId", said, 403),
            ServiceError("InvalidClientTokenId", TOKEN, 403),
            ServiceError("UnrecognizedClientException", TOKEN, self._json_status),
        )

    def wrong_token(self) -> ServiceError:
        """The session token does not belong to the access key."""
        said = (
            "The provided token is malformed or otherwise invalid; if it is left from another "
            "account: unset AWS_SESSION_TOKEN"
        )
        return self._choose(
            ServiceError("InvalidToken", said, 400),
            ServiceError("InvalidClientTokenId", said, 403),
            ServiceError("UnrecognizedClientException", said, self._json_status),
        )

    def ended_session(self) -> ServiceError:
        """The session token is of a session that is over."""
        said = "The security token included in the request is expired"
        return self._choose(
            ServiceError("ExpiredToken", "The provided token has expired.", 400),
            ServiceError("ExpiredToken", said, 403),
            ServiceError("ExpiredTokenException", said, self._json_status),
        )

    def wrong_signature(self, said: str = MISMATCH) -> ServiceError:
        """The signature is not the one that the secret gives."""
        return self._choose(
            ServiceError("SignatureDoesNotMatch", said, 403),
            ServiceError("SignatureDoesNotMatch", said, 403),
            ServiceError("InvalidSignatureException", said, self._json_status),
        )

    def wrong_clock(self, said: str) -> ServiceError:
        """The request was signed at another time than now."""
        skewed = "The difference between the request time and the current time is too large"
        if self._s3:
            return ServiceError("RequestTimeTooSkewed", f"{skewed}: {said}.", 403)
        return self.wrong_signature(said)

    def malformed(self, said: str, *, in_url: bool) -> ServiceError:
        """The signature cannot be read."""
        code = "AuthorizationQueryParametersError" if in_url else "AuthorizationHeaderMalformed"
        return self._choose(
            ServiceError(code, said, 400),
            ServiceError("IncompleteSignature", said, 400),
            ServiceError("IncompleteSignatureException", said, self._json_status),
        )

    def expired(self, said: str = "Request has expired") -> ServiceError:
        """A presigned URL is used too late (or too early)."""
        if self._s3:
            return ServiceError("AccessDenied", said, 403)
        return self.wrong_signature(f"Signature expired: {said}")

    def other_bytes(self) -> ServiceError:
        """The body is not the one that was signed."""
        said = "The provided 'x-amz-content-sha256' header does not match what was computed."
        if self._s3:
            return ServiceError("XAmzContentSHA256Mismatch", said)
        return self.wrong_signature(said)

    def too_long(self, most: int) -> ServiceError:
        """The body is longer than any request's to this service."""
        said = f"The body of this request is longer than {most} bytes."
        return self._choose(
            ServiceError("MaxMessageLengthExceeded", said),
            ServiceError("RequestEntityTooLarge", said, 413),
            ServiceError("RequestEntityTooLargeException", said, 413),
        )

    def _choose(self, s3: ServiceError, query: ServiceError, json: ServiceError) -> ServiceError:
        return s3 if self._s3 else query if self._query else json

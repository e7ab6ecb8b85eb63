"""AWS's errors for a request that is not authenticated, in each protocol.

Codes and statuses: "Error responses" in the S3 API reference, "Common errors" in those of IAM, STS
and SageMaker; JSON services return 400 where REST ones return 403.
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
    """The errors for one request, which depend on its protocol.

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
        """The request is not signed."""
        message = f"Request is missing Authentication Token: {HINT}."
        return self._choose(
            ServiceError(
                "AccessDenied", f"Access Denied: this request is not signed; {HINT}.", 403
            ),
            ServiceError("MissingAuthenticationToken", message, 403),
            ServiceError("MissingAuthenticationTokenException", message, 403),
        )

    def unknown_key(self) -> ServiceError:
        """No access key has this ID."""
        message = f"The AWS Access Key Id you provided does not exist in our records: {HINT}."
        return self._choose(
            ServiceError("InvalidAccessKeyId", message, 403),
            ServiceError("InvalidClientTokenId", TOKEN, 403),
            ServiceError("UnrecognizedClientException", TOKEN, self._json_status),
        )

    def wrong_token(self) -> ServiceError:
        """The session token does not belong to the access key."""
        message = (
            "The provided token is malformed or otherwise invalid; if it is left from another "
            "account: unset AWS_SESSION_TOKEN"
        )
        return self._choose(
            ServiceError("InvalidToken", message, 400),
            ServiceError("InvalidClientTokenId", message, 403),
            ServiceError("UnrecognizedClientException", message, self._json_status),
        )

    def ended_session(self) -> ServiceError:
        """The session has ended."""
        message = "The security token included in the request is expired"
        return self._choose(
            ServiceError("ExpiredToken", "The provided token has expired.", 400),
            ServiceError("ExpiredToken", message, 403),
            ServiceError("ExpiredTokenException", message, self._json_status),
        )

    def wrong_signature(self, message: str = MISMATCH) -> ServiceError:
        """The signature does not match the request and the secret."""
        return self._choose(
            ServiceError("SignatureDoesNotMatch", message, 403),
            ServiceError("SignatureDoesNotMatch", message, 403),
            ServiceError("InvalidSignatureException", message, self._json_status),
        )

    def wrong_clock(self, message: str) -> ServiceError:
        """The signing time differs too much from the current time."""
        skewed = "The difference between the request time and the current time is too large"
        if self._s3:
            return ServiceError("RequestTimeTooSkewed", f"{skewed}: {message}.", 403)
        return self.wrong_signature(message)

    def malformed(self, message: str, *, in_url: bool) -> ServiceError:
        """The signature cannot be parsed."""
        code = "AuthorizationQueryParametersError" if in_url else "AuthorizationHeaderMalformed"
        return self._choose(
            ServiceError(code, message, 400),
            ServiceError("IncompleteSignature", message, 400),
            ServiceError("IncompleteSignatureException", message, self._json_status),
        )

    def expired(self, message: str = "Request has expired") -> ServiceError:
        """A presigned URL has expired, or is not valid yet."""
        if self._s3:
            return ServiceError("AccessDenied", message, 403)
        return self.wrong_signature(f"Signature expired: {message}")

    def other_bytes(self) -> ServiceError:
        """The body does not match the signed hash."""
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        if self._s3:
            return ServiceError("XAmzContentSHA256Mismatch", message)
        return self.wrong_signature(message)

    def too_long(self, most: int) -> ServiceError:
        """The body is larger than the service accepts."""
        message = f"The body of this request is longer than {most} bytes."
        return self._choose(
            ServiceError("MaxMessageLengthExceeded", message),
            ServiceError("RequestEntityTooLarge", message, 413),
            ServiceError("RequestEntityTooLargeException", message, 413),
        )

    def _choose(self, s3: ServiceError, query: ServiceError, json: ServiceError) -> ServiceError:
        return s3 if self._s3 else query if self._query else json

"""The error responses of the local SageMaker, with AWS's codes."""


class ServiceError(Exception):
    """An error response.

    Attributes:
        code: AWS's error code, such as `ValidationException`.
        message: one sentence with the field, what was found and what was expected.
        status: the HTTP status.
        extra: more members of the error's shape, such as `OriginalStatusCode` of a `ModelError`.
    """

    def __init__(
        self, code: str, message: str, status: int = 400, extra: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.extra = extra or {}


def invalid(message: str) -> ServiceError:
    """`ValidationException`: the request is invalid."""
    return ServiceError("ValidationException", message)


def in_use(message: str) -> ServiceError:
    """`ResourceInUse`: the name or the resource is in use."""
    return ServiceError("ResourceInUse", message)


def not_found(message: str) -> ServiceError:
    """`ResourceNotFound`: there is no such job (for models and endpoints see `invalid`)."""
    return ServiceError("ResourceNotFound", message)


def limit_exceeded(message: str) -> ServiceError:
    """`ResourceLimitExceeded`: a quota is exceeded."""
    return ServiceError("ResourceLimitExceeded", message)

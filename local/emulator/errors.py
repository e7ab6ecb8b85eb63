"""The errors the local SageMaker answers with: AWS's codes, in AWS's shape."""


class ServiceError(Exception):
    """An answer that is an error.

    Attributes:
        code: AWS's error code, e.g. `ValidationException`.
        message: one sentence that names the field, what was found and what was expected.
        status: the HTTP status.
        extra: further members of the error's shape, e.g. `OriginalStatusCode` of a `ModelError`.
    """

    def __init__(
        self, code: str, message: str, status: int = 400, extra: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.extra = extra or {}


def invalid(message: str) -> ServiceError:
    """A request AWS refuses: `ValidationException`."""
    return ServiceError("ValidationException", message)


def in_use(message: str) -> ServiceError:
    """A name that is taken, or a thing that something else needs: `ResourceInUse`."""
    return ServiceError("ResourceInUse", message)


def not_found(message: str) -> ServiceError:
    """A job that is not there: `ResourceNotFound` (models and endpoints: `invalid`, as on AWS)."""
    return ServiceError("ResourceNotFound", message)


def limit_exceeded(message: str) -> ServiceError:
    """More than an account may have: `ResourceLimitExceeded`."""
    return ServiceError("ResourceLimitExceeded", message)

"""botocore's service models."""

from functools import cache
from typing import Any

from local.emulator.errors import ServiceError


@cache
def service_model(service: str = "sagemaker") -> Any:
    """The `ServiceModel`, loaded once, because loading takes 0.1 s."""
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def operation_model(name: str) -> Any:
    """The `OperationModel` of an operation.

    Raises:
        ServiceError: SageMaker has no such operation.
    """
    from botocore.model import OperationNotFoundError

    try:
        return service_model().operation_model(name)
    except OperationNotFoundError:
        raise ServiceError(
            "UnknownOperationException", f"{name!r} is not an operation of SageMaker's API."
        ) from None

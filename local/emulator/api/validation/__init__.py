"""What SageMaker refuses beyond its model: each check raises the ServiceError AWS would answer."""

from local.emulator.api.validation.hosting import (
    check_endpoint,
    check_endpoint_config,
    check_endpoint_update,
    check_model,
    check_weights,
)
from local.emulator.api.validation.training import check_training
from local.emulator.api.validation.transform import check_transform
from local.emulator.api.validation.tuning import check_tuning

__all__ = [
    "check_endpoint",
    "check_endpoint_config",
    "check_endpoint_update",
    "check_model",
    "check_training",
    "check_transform",
    "check_tuning",
    "check_weights",
]

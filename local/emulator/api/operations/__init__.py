"""What the local SageMaker offers: an operation's name → what answers it."""

from local.emulator.api.operations import (
    endpoints,
    models,
    search,
    tags,
    training,
    transform,
    tuning,
)
from local.emulator.api.operations.answering import Operation

OPERATIONS: dict[str, Operation] = {
    **training.OPERATIONS,
    **tuning.OPERATIONS,
    **models.OPERATIONS,
    **endpoints.OPERATIONS,
    **transform.OPERATIONS,
    **tags.OPERATIONS,
    **search.OPERATIONS,
}
"""Each takes the services and a request that `parser.parse` gave, and returns the answer."""

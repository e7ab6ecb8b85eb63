"""Validation of a request's tags."""

import math
from typing import Any

from local.emulator.api.validation.fields import check_unique
from local.emulator.errors import invalid
from local.emulator.training.interruptions import INTERRUPT_TAG

MAX_TAGS = 50
"""Tags of one resource, by the AWS general reference."""


def tags_of(request: dict[str, Any]) -> dict[str, str]:
    """The request's tags by key."""
    return {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}


def check_tags(request: dict[str, Any]) -> None:
    """Check that keys are unique and not AWS's own.

    Raises:
        ServiceError: they are not.
    """
    tags = request.get("Tags", [])
    check_unique("Tags", (tag["Key"] for tag in tags))
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            raise invalid(
                f"Tags holds the key '{tag['Key']}'; expected one without the prefix aws:, which "
                "is AWS's own."
            )


def check_rehearsal(request: dict[str, Any], *, spot: bool) -> None:
    """Check that a spot rehearsal has managed spot training and a time.

    Raises:
        ServiceError: it has not.
    """
    value = tags_of(request).get(INTERRUPT_TAG)
    if value is None:
        return
    if not spot:
        raise invalid(
            f"The tag {INTERRUPT_TAG} was given without EnableManagedSpotTraining; expected it "
            "to be true, since only spot training is interrupted."
        )
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise invalid(
            f"The tag {INTERRUPT_TAG} is '{value}'; expected a number of seconds above 0."
        )

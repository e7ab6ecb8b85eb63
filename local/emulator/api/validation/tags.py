"""Validation of a request's tags."""

import math
from typing import Any

from local.emulator.api.validation.fields import check_unique
from local.emulator.errors import invalid
from local.emulator.training.interruptions import INTERRUPT_TAG

MAX_TAGS = 50
"""Most tags of a resource (AWS general reference)."""


def tags_of(request: dict[str, Any]) -> dict[str, str]:
    """The request's tags by key."""
    return {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}


def check_tags(request: dict[str, Any]) -> None:
    """Check that keys are unique and do not have AWS's prefix.

    Raises:
        ServiceError: they are not.
    """
    tags = request.get("Tags", [])
    check_unique("Tags", (tag["Key"] for tag in tags))
    for tag in tags:
        if tag["Key"].lower().startswith("aws:"):
            raise invalid(
                f"Tags has the key '{tag['Key']}'; expected one without the prefix aws:, which is "
                "reserved."
            )


def check_rehearsal(request: dict[str, Any], *, spot: bool) -> None:
    """Check the tag that simulates a spot interruption: it needs a managed spot job and a time.

    Raises:
        ServiceError: one of them is missing or invalid.
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

"""Tags of a request."""

import math
from typing import Any

from local.emulator.api.validation.fields import check_unique
from local.emulator.errors import invalid

MOST_TAGS = 50
"""Of one resource, by the AWS general reference."""

INTERRUPT_AFTER = "berth:interrupt-after"
"""Asks for a spot rehearsal: interrupt the job after so many seconds of training."""


def tags_of(request: dict[str, Any]) -> dict[str, str]:
    """The request's tags by key."""
    return {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}


def check_tags(request: dict[str, Any]) -> None:
    """Keys are unique and not AWS's own.

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
    """The tag that asks for an interruption comes with managed spot and a time.

    Raises:
        ServiceError: it does not.
    """
    asked = tags_of(request).get(INTERRUPT_AFTER)
    if asked is None:
        return
    if not spot:
        raise invalid(
            f"The tag {INTERRUPT_AFTER} was given without EnableManagedSpotTraining; expected it "
            "to be true, since only spot training is interrupted."
        )
    try:
        seconds = float(asked)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise invalid(
            f"The tag {INTERRUPT_AFTER} is '{asked}'; expected a number of seconds above 0."
        )

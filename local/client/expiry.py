"""The end of an endpoint, set when it is made.

On this machine the local SageMaker deletes it, by a tag; on AWS a one-time schedule of EventBridge
does. Both go on without the command that asked.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.errors import UserError, code
from local.requests.hosting import schedule_name

if TYPE_CHECKING:
    from local.client.target import Target

SHORTEST = timedelta(minutes=1)
"""EventBridge Scheduler knows no smaller step."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def duration(text: str, option: str = "--ttl") -> timedelta:
    """`90m`, `2h`, `1h30m` or `3d` as a time span.

    Raises:
        UserError: it is none of these, or shorter than a minute.
    """
    parts = _DURATION.findall(text)
    rest = _DURATION.sub("", text).strip()
    if not parts or rest:
        raise UserError(f"{option}: found {text!r}, expected a time such as 90m, 2h or 1h30m")
    span = sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
    if span < SHORTEST:
        raise UserError(f"{option}: found {text}, expected a minute or more")
    return span


def arrange(target: "Target", request: dict[str, Any]) -> None:
    """Set a schedule on AWS, in place of one the endpoint's name may have had.

    Raises:
        UserError: the role cannot be used by the scheduler.
    """
    scheduler = target.client("scheduler")
    try:
        scheduler.create_schedule(**request)
    except Exception as error:
        if code(error) == "ConflictException":
            scheduler.update_schedule(**request)
        elif code(error) == "ValidationException" and "role" in str(error).lower():
            raise UserError(
                f"--ttl: {request['Target']['RoleArn']} must trust scheduler.amazonaws.com and may "
                "sagemaker:DeleteEndpoint; name one that does with --scheduler-role"
            ) from None
        else:
            raise


def cancel(target: "Target", endpoint: str) -> None:
    """Take an endpoint's schedule away, if it has one; locally it goes with the endpoint.

    Whoever may not look at schedules is taken to have none.
    """
    if target.where == "local":
        return
    try:
        target.client("scheduler").delete_schedule(Name=schedule_name(endpoint))
    except Exception as error:
        if code(error) not in ("ResourceNotFoundException", "AccessDeniedException"):
            raise


def clock(when: datetime) -> str:
    """A moment as people read it, here and in UTC."""
    here = when.astimezone()
    shown = f"{here:%Y-%m-%d %H:%M:%S %Z}"
    utc = when.astimezone(UTC)
    return shown if here.utcoffset() == timedelta() else f"{shown} ({utc:%H:%M:%S} UTC)"

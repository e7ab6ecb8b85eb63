"""An endpoint's time to live, set when it is created.

The local SageMaker deletes the endpoint by a tag; on AWS a one-time schedule of EventBridge does.
Neither needs the command to keep running.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.errors import UserError, code
from local.requests.hosting import schedule_name

if TYPE_CHECKING:
    from local.client.target import Target

SHORTEST = timedelta(minutes=1)
"""EventBridge Scheduler has no smaller step."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def parse_duration(text: str, option: str = "--ttl") -> timedelta:
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


def create_schedule(target: "Target", request: dict[str, Any]) -> None:
    """Create a schedule on AWS; replaces an earlier one of the endpoint's name.

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


def delete_schedule(target: "Target", endpoint: str) -> None:
    """Delete an endpoint's schedule, if it has one; the local SageMaker has none.

    An account without access to schedules has none either.
    """
    if target.where == "local":
        return
    try:
        target.client("scheduler").delete_schedule(Name=schedule_name(endpoint))
    except Exception as error:
        if code(error) not in ("ResourceNotFoundException", "AccessDeniedException"):
            raise


def format_time(when: datetime) -> str:
    """A time in the local time zone and in UTC."""
    here = when.astimezone()
    shown = f"{here:%Y-%m-%d %H:%M:%S %Z}"
    utc = when.astimezone(UTC)
    return shown if here.utcoffset() == timedelta() else f"{shown} ({utc:%H:%M:%S} UTC)"

"""An endpoint's time to live, set when it is created.

On AWS a one-time EventBridge schedule deletes the endpoint, in the local SageMaker a tag. Neither
needs the command to keep running.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.errors import UserError, code
from local.requests.hosting import schedule_name

if TYPE_CHECKING:
    from local.client.target import Target

SHORTEST = timedelta(minutes=1)
"""The resolution of EventBridge Scheduler."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def parse_duration(text: str, option: str = "--ttl") -> timedelta:
    """Parse `90m`, `2h`, `1h30m` or `3d`.

    Raises:
        UserError: `text` has another form, or is shorter than a minute.
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
    """Create a schedule on AWS, or update the one of the same name.

    Raises:
        UserError: EventBridge Scheduler cannot assume the role.
    """
    scheduler = target.client("scheduler")
    try:
        scheduler.create_schedule(**request)
    except Exception as error:
        if code(error) == "ConflictException":
            scheduler.update_schedule(**request)
        elif code(error) == "ValidationException" and "role" in str(error).lower():
            raise UserError(
                f"--ttl: {request['Target']['RoleArn']} must trust scheduler.amazonaws.com and "
                "allow sagemaker:DeleteEndpoint; choose a role that does with --scheduler-role"
            ) from None
        else:
            raise


def delete_schedule(target: "Target", endpoint: str) -> None:
    """Delete an endpoint's schedule on AWS, if it has one and the caller may access schedules."""
    if target.where == "local":
        return
    try:
        target.client("scheduler").delete_schedule(Name=schedule_name(endpoint))
    except Exception as error:
        if code(error) not in ("ResourceNotFoundException", "AccessDeniedException"):
            raise


def format_time(when: datetime) -> str:
    """Format a time in the local time zone and in UTC."""
    here = when.astimezone()
    shown = f"{here:%Y-%m-%d %H:%M:%S %Z}"
    utc = when.astimezone(UTC)
    return shown if here.utcoffset() == timedelta() else f"{shown} ({utc:%H:%M:%S} UTC)"

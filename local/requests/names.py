"""Names of jobs, from the data and the time; valid for SageMaker, unique to the millisecond."""

import re
from datetime import datetime

from local.errors import UserError

TRAINING_LIMIT = 63
TUNING_LIMIT = 32
"""Longest names of training and tuning jobs (API reference); trials' names have a suffix."""
LEGAL = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


def stamp(now: datetime) -> str:
    """The time in a name, to the millisecond: `20260102-030405-678`."""
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"


def job_name(data: str, now: datetime, limit: int = TRAINING_LIMIT) -> str:
    """`berth-<data>-<timestamp>`, where `<data>` is the last part of a URI or path, cut to fit."""
    end = stamp(now)
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", data.rstrip("/").rpartition("/")[2]).strip("-")
    room = limit - len(f"berth--{end}")
    slug = slug[:room].strip("-") or "job"
    return f"berth-{slug}-{end}"


def checked_name(name: str, limit: int = TRAINING_LIMIT) -> str:
    """The value of --name.

    Raises:
        UserError: SageMaker would reject it.
    """
    if len(name) > limit or not LEGAL.fullmatch(name):
        raise UserError(
            f"--name: found {name!r}, expected at most {limit} letters, digits and single hyphens "
            "between them"
        )
    return name

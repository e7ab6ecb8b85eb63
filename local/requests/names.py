"""Names of jobs: what is trained on, and when; legal for SageMaker, unique to the millisecond."""

import re
from datetime import datetime

from local.errors import UserError

TRAINING_LIMIT = 63
TUNING_LIMIT = 32
"""Longest names of a training and a tuning job (API reference); a trial's gets a suffix."""
LEGAL = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


def stamp(now: datetime) -> str:
    """The end of a name: `20260102-030405-678`, to the millisecond."""
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"


def job_name(data: str, now: datetime, limit: int = TRAINING_LIMIT) -> str:
    """`berth-<data>-<timestamp>`; `data` is a URI or path, its last part is shortened to fit."""
    end = stamp(now)
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", data.rstrip("/").rpartition("/")[2]).strip("-")
    room = limit - len(f"berth--{end}")
    slug = slug[:room].strip("-") or "job"
    return f"berth-{slug}-{end}"


def checked_name(name: str, limit: int = TRAINING_LIMIT) -> str:
    """The name a user gave.

    Raises:
        UserError: SageMaker would refuse it.
    """
    if len(name) > limit or not LEGAL.fullmatch(name):
        raise UserError(
            f"--name: found {name!r}, expected at most {limit} letters, digits and single hyphens "
            "between them"
        )
    return name

"""Deadlines of a training job, from its request and the time it has used."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from local.emulator.store import Record
from local.emulator.training.describe import seconds_in, utc_now
from local.emulator.training.interruptions import INTERRUPT_TAG, count


def deadlines(
    record: Record, request: Mapping[str, Any], tags: Mapping[str, str], began: float
) -> dict[str, float]:
    """The deadlines of an attempt, as `time.monotonic`, by reason.

    Args:
        record: the job.
        request: its CreateTrainingJob request.
        tags: its tags.
        began: start of the attempt, as `time.monotonic`.
    """
    limit = record.body["StoppingCondition"]["MaxRuntimeInSeconds"]
    trained = seconds_in(record.body, "Training", utc_now())
    found = {"MaxRuntimeExceeded": time.monotonic() + limit - trained}
    waiting = wait_deadline(record, request)
    if waiting is not None:
        found["MaxWaitTimeExceeded"] = waiting
    after = tags.get(INTERRUPT_TAG)
    if after is not None and _is_spot(request) and not count(record, "spot"):
        found["spot"] = began + float(after)
    return found


def wait_deadline(record: Record, request: Mapping[str, Any]) -> float | None:
    """The end of MaxWaitTimeInSeconds, as `time.monotonic`; None for jobs without spot."""
    limit = record.body["StoppingCondition"].get("MaxWaitTimeInSeconds")
    if limit is None or not _is_spot(request):
        return None
    created: datetime = record.body["CreationTime"]
    paused: float = record.private.get("paused_seconds", 0.0)
    left = float(limit) - (utc_now() - created).total_seconds() + paused
    return time.monotonic() + left


def _is_spot(request: Mapping[str, Any]) -> bool:
    return bool(request.get("EnableManagedSpotTraining", False))

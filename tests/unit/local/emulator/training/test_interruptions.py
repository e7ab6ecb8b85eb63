"""The work lost in an interruption."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.emulator.store import Kind, Record
from local.emulator.training.describe import enter, new_body
from local.emulator.training.interruptions import Cause, Interruption, count
from tests.unit.local.emulator.training_harness import request

START = datetime(2026, 1, 1, tzinfo=UTC)
SAVED = {"CheckpointConfig": {"S3Uri": "s3://bucket/saved"}}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def interrupted(
    cause: Cause, saved: float | None, **changes: Any
) -> tuple[dict[str, Any], str, Record]:
    """Return a job that trained from second 0 to 10, and from 20 to an interruption at 50."""
    wanted = request(**changes)
    body = new_body(wanted, "arn", None, at(-5))
    for status, second in (("Training", 0), ("Interrupted", 10), ("Training", 20)):
        enter(body, status, at(second))
    record = Record(Kind.TRAINING_JOB, "job", "arn", at(-5), at(20), body)
    last = None if saved is None else at(saved)
    Interruption(cause, "It was interrupted", at(50)).record(record, wanted, last)
    message: str = body["SecondaryStatusTransitions"][-1]["StatusMessage"]
    return record.private["interruptions"][0], message, record


def test_work_after_the_last_checkpoint_is_lost() -> None:
    facts, message, record = interrupted("spot", 43.5, **SAVED)
    assert facts == {
        "cause": "spot",
        "time": at(50).timestamp(),
        "seconds_trained": 30.0,
        "seconds_lost": 6.5,
    }
    assert message == (
        "It was interrupted after 30.0 s of training; the last checkpoint was saved 6.5 s "
        "before: 6.5 s of work lost"
    )
    assert record.body["SecondaryStatus"] == "Interrupted"
    assert record.body["TrainingJobStatus"] == "InProgress"


@pytest.mark.parametrize("saved", [None, 5.0])
def test_without_a_new_checkpoint_this_attempt_is_lost(saved: float | None) -> None:
    facts, message, _ = interrupted("spot", saved, **SAVED)
    assert facts["seconds_lost"] == 30.0
    assert "no checkpoint was saved: 30.0 s of work lost" in message


def test_a_checkpoint_written_after_sigterm_loses_nothing() -> None:
    assert interrupted("shutdown", 51.0)[0]["seconds_lost"] == 0.0


def test_on_a_spot_instance_files_outside_s3_are_lost() -> None:
    facts, message, _ = interrupted("spot", 49.0)
    assert facts["seconds_lost"] == 40.0
    assert "without a CheckpointConfig no checkpoint is kept: 40.0 s of work lost" in message


@pytest.mark.parametrize("cause", ["shutdown", "engine", "crash"])
def test_local_checkpoints_are_kept_without_a_spot_rehearsal(cause: Cause) -> None:
    assert interrupted(cause, 49.0)[0]["seconds_lost"] == 1.0


def test_interruptions_are_counted_by_their_cause() -> None:
    record = interrupted("spot", None)[2]
    assert (count(record, "spot"), count(record, "engine")) == (1, 0)

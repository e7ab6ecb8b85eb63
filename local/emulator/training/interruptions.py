"""Interruptions of a training job that another attempt follows, and what each one costs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from local.emulator.store import Record
from local.emulator.training.describe import Body, enter, seconds_in

INTERRUPT_TAG = "berth:interrupt-after"
"""The tag that rehearses a spot interruption, after so many seconds of training."""

Cause = Literal["spot", "shutdown", "engine", "crash"]


@dataclass(frozen=True)
class Interruption:
    """Why an attempt ended that another one follows.

    Attributes:
        cause: a spot rehearsal, the server's end, the engine's, or a server that was killed.
        line: the same as a message.
        time: when the hosts got SIGTERM, or were last seen at work.
    """

    cause: Cause
    line: str
    time: datetime

    def keeps_checkpoints(self, request: dict[str, Any]) -> bool:
        """Whether the next attempt finds them: a spot instance leaves only what is in S3."""
        return self.cause != "spot" or "CheckpointConfig" in request

    def record(self, record: Record, request: dict[str, Any], saved: datetime | None) -> None:
        """Record it: a transition with what was lost, and the numbers in `private`.

        Args:
            record: the job, changed in place.
            request: its CreateTrainingJob request.
            saved: when a checkpoint was last written.
        """
        started = _last_start(record.body)
        trained = (self.time - started).total_seconds()
        if not self.keeps_checkpoints(request):
            lost = seconds_in(record.body, "Training", self.time)
            kept = "without a CheckpointConfig nothing is kept"
        elif saved is None or saved < started:
            lost = trained
            kept = "no checkpoint was written in this time"
        else:
            lost = max(0.0, (self.time - saved).total_seconds())
            kept = f"the last checkpoint was written {lost:.1f} s before"
        message = (
            f"{self.line} after {trained:.1f} s of training; {kept}: {lost:.1f} s of work lost"
        )
        enter(record.body, "Interrupted", self.time, message)
        record.private.setdefault("interruptions", []).append(
            {
                "cause": self.cause,
                "time": self.time.timestamp(),
                "seconds_trained": trained,
                "seconds_lost": lost,
            }
        )


def count(record: Record, cause: Cause) -> int:
    """How often a job was interrupted for this cause."""
    return sum(one["cause"] == cause for one in record.private.get("interruptions", []))


def _last_start(body: Body) -> datetime:
    visits = [v for v in body["SecondaryStatusTransitions"] if v["Status"] == "Training"]
    started: datetime = visits[-1]["StartTime"]
    return started

"""Interruptions after which a training job is retried, and the work that each one loses."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from local.emulator.store import Record
from local.emulator.training.describe import Body, enter, seconds_in

INTERRUPT_TAG = "berth:interrupt-after"
"""The tag that simulates a spot interruption; its value is seconds of training."""

Cause = Literal["spot", "shutdown", "engine", "crash"]


@dataclass(frozen=True)
class Interruption:
    """Why an attempt ended that is followed by another one.

    Attributes:
        cause: a simulated spot interruption, the server's stop, an engine failure, or a killed
            server.
        line: the cause as a message.
        time: when the hosts got SIGTERM, or were last seen running.
    """

    cause: Cause
    line: str
    time: datetime

    def keeps_checkpoints(self, request: dict[str, Any]) -> bool:
        """Whether the next attempt has the checkpoints: of a spot instance only S3 remains."""
        return self.cause != "spot" or "CheckpointConfig" in request

    def record(self, record: Record, request: dict[str, Any], saved: datetime | None) -> None:
        """Record the interruption in a transition's message and in `private`.

        Args:
            record: the job, changed in place.
            request: its CreateTrainingJob request.
            saved: time of the last checkpoint; None if there is none.
        """
        started = _last_start(record.body)
        trained = (self.time - started).total_seconds()
        if not self.keeps_checkpoints(request):
            lost = seconds_in(record.body, "Training", self.time)
            kept = "without a CheckpointConfig no checkpoint is kept"
        elif saved is None or saved < started:
            lost = trained
            kept = "no checkpoint was saved"
        else:
            lost = max(0.0, (self.time - saved).total_seconds())
            kept = f"the last checkpoint was saved {lost:.1f} s before"
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
    """The number of interruptions of a job with this cause."""
    return sum(one["cause"] == cause for one in record.private.get("interruptions", []))


def _last_start(body: Body) -> datetime:
    visits = [v for v in body["SecondaryStatusTransitions"] if v["Status"] == "Training"]
    started: datetime = visits[-1]["StartTime"]
    return started

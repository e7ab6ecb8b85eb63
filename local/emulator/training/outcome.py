"""Outcomes of training jobs, and the form of a FailureReason."""

import errno
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOutcome:
    """The final TrainingJobStatus, SecondaryStatus and FailureReason of a job."""

    status: str
    secondary: str
    reason: str | None = None


STOPPED = TrainingOutcome("Stopped", "Stopped")
COMPLETED = TrainingOutcome("Completed", "Completed")


def failed(reason: str) -> TrainingOutcome:
    """A failure with a reason in AWS's form: `AlgorithmError: …`, `ClientError: …`."""
    return TrainingOutcome("Failed", "Failed", reason)


def first_line(error: Exception) -> str:
    """The first line of an error; if the disk is full, what to do."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on this machine's disk; free some and start the job again"
    return str(error).strip().partition("\n")[0] or type(error).__name__

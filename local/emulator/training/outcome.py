"""How a training job ends, and the form of its FailureReason."""

import errno
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOutcome:
    """How a job ends: its TrainingJobStatus, SecondaryStatus and FailureReason."""

    status: str
    secondary: str
    reason: str | None = None


STOPPED = TrainingOutcome("Stopped", "Stopped")
COMPLETED = TrainingOutcome("Completed", "Completed")


def failed(reason: str) -> TrainingOutcome:
    """A failure for this reason, in AWS's form: `AlgorithmError: …`, `ClientError: …`."""
    return TrainingOutcome("Failed", "Failed", reason)


def first_line(error: Exception) -> str:
    """The first line of an error; for a full disk, what to do."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left on this machine's disk; free some and start the job again"
    return str(error).strip().partition("\n")[0] or type(error).__name__

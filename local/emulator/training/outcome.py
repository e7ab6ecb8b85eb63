"""How a training job can end, and how the reason is put."""

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
    """What an error says, in a line a person can act on."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left on this machine's disk; free some and start the job again"
    return str(error).strip().partition("\n")[0] or type(error).__name__

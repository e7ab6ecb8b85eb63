"""How a job is profiled: by SageMaker's `profilerconfig.json`, else by hyperparameters."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProfilerSettings:
    """What is recorded, and where.

    Attributes:
        root: the profiler's folder.
        interval: seconds between two samples of the machine's use.
        steps: training steps, from 0, whose operators torch.profiler records; may be empty.
        rotate_bytes: a file of events ends when it is larger.
        rotate_seconds: or has been open for longer.
    """

    root: Path
    interval: float
    steps: range
    rotate_bytes: int
    rotate_seconds: float

    @classmethod
    def read(
        cls,
        base: Path,
        *,
        profile: bool | None,
        interval_ms: int,
        steps: str,
        say: Callable[[str], None],
    ) -> "ProfilerSettings | None":
        """None where nothing is to be profiled.

        Args:
            base: the root of SageMaker's tree.
            profile: True or False as the user said; None to do what `profilerconfig.json` says.
            interval_ms, steps: the hyperparameters `profile_interval` and `profile_steps`, used
                where the file says nothing.
            say: told once about what the file asks for and this profiler does not have.

        Raises:
            ProfilerError: the file is malformed.
        """
        raise NotImplementedError

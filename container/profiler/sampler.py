"""The machine's use, sampled by a process beside the training."""

from collections.abc import Callable
from pathlib import Path


class Sampler:
    """Samples this host until it is stopped, or the process that started it ends.

    One a host: the first local rank's, or the process that launches the ranks.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
        interval: seconds between two samples.
        say: where messages go.
    """

    def __init__(
        self, root: Path, host: str, interval: float, say: Callable[[str], None] = print
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begin; from the main thread, with whose end the sampler ends. Never raises."""
        raise NotImplementedError

    def stop(self) -> None:
        """End, with all that was sampled in the files; twice is harmless."""
        raise NotImplementedError

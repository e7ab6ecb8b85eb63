"""What the operators of a few steps cost: torch.profiler's table and Chrome trace."""

from collections.abc import Callable
from pathlib import Path


class OperatorProfile:
    """Profiles some training steps.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
        rank: this process's rank.
        steps: the training steps, from 0; none where it is empty.
        say: where messages go.
    """

    def __init__(
        self, root: Path, host: str, rank: int, steps: range, say: Callable[[str], None] = print
    ) -> None:
        raise NotImplementedError

    def step(self, number: int) -> None:
        """Called as every training step begins, in `timeline.phase("profiler")`. Never raises."""
        raise NotImplementedError

    def pause(self) -> None:
        """The steps are interrupted, by an evaluation: what was recorded by now is written."""
        raise NotImplementedError

    def close(self) -> None:
        """There are no more steps; twice is harmless."""
        raise NotImplementedError

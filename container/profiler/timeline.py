"""Where the time of a training step goes: framework events in SageMaker's format."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Timeline:
    """Records steps and their phases.

    Args:
        root: the profiler's folder, which several ranks share.
        host: `algo-N`.
        rank: this process's rank.
        device: where the network is; on a GPU its phases are measured there as well.
        rotate_bytes, rotate_seconds: when a file ends and the next begins.
        clock, wall: nanoseconds that never jump, and those since 1970.
        say: where messages go.
    """

    def __init__(
        self,
        root: Path,
        host: str,
        *,
        rank: int,
        device: "torch.device",
        rotate_bytes: int = 10 * 2**20,
        rotate_seconds: float = 60.0,
        clock: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
        say: Callable[[str], None] = print,
    ) -> None:
        raise NotImplementedError

    def batches(
        self, mode: Literal["train", "eval"], batches: Iterable[T], first_step: int
    ) -> Iterator[T]:
        """The batches; a step runs from asking for its batch to asking for the next."""
        raise NotImplementedError

    def phase(self, name: str) -> AbstractContextManager[object]:
        """A part of the step under way, or of the job outside of steps; names in `names.PHASES`."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is left and give the file its final name; twice is harmless."""
        raise NotImplementedError

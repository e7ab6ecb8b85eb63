"""The minutes of a fit job: what is spent, what is left, and what is kept for the end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SAFETY = 1.25
"""By how much a measured time is raised when it is planned with: machines are shared."""


@dataclass
class TimeBudget:
    """Counts a job's seconds down; measured costs are kept by name.

    Attributes:
        seconds: the time given.
        spent: seconds of it that were gone before an interruption.
        clock: the time, in seconds.
        reserve: seconds kept for what ends the job: evaluation, artifact and export.
        costs: seconds for one unit of work, by the work's name; the latest measurement.
    """

    seconds: float
    spent: float = 0.0
    clock: Callable[[], float] = time.monotonic
    reserve: float = 0.0
    costs: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start counting."""
        self._started = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the job's start, those before an interruption among them."""
        return self.spent + self.clock() - self._started

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self.seconds - self.elapsed

    @property
    def free(self) -> float:
        """Seconds left for anything but the end, not below 0."""
        return max(0.0, self.left - self.reserve)

    def measured(self, name: str, seconds: float, units: float = 1) -> None:
        """Remember what `units` of a work took."""
        if units > 0:
            self.costs[name] = seconds / units

    def cost(self, name: str, units: float = 1) -> float:
        """Seconds that `units` of a measured work are planned with.

        Raises:
            KeyError: it was never measured.
        """
        return SAFETY * units * self.costs[name]

    def affords(self, name: str, units: float = 1, share: float = 1.0) -> bool:
        """Whether `units` of a measured work fit into a share of the free seconds."""
        return self.cost(name, units) <= share * self.free


def minutes_for(seconds: float) -> float:
    """Whole minutes that hold so many seconds; tenths of a minute below one."""
    return math.ceil(seconds / 60) if seconds > 60 else math.ceil(seconds / 6) / 10


def spoken(seconds: float) -> str:
    """A duration for a log: `48 s`, `3 min 05 s`."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"

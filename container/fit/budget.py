"""The time budget of a fit job."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SAFETY = 1.25
"""Factor on measured times in plans, because machines are shared."""


@dataclass
class TimeBudget:
    """Tracks a job's time and the measured costs of its work.

    Attributes:
        seconds: the time limit.
        spent: seconds used before an interruption.
        clock: returns the time in seconds.
        reserve: seconds reserved for the end of the job: evaluation, artifact and export.
        costs: the last measured seconds per unit of work, by name.
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
        """Seconds since the job's start, including those before an interruption."""
        return self.spent + self.clock() - self._started

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self.seconds - self.elapsed

    @property
    def free(self) -> float:
        """Seconds left without the reserve, at least 0."""
        return max(0.0, self.left - self.reserve)

    def measured(self, name: str, seconds: float, units: float = 1) -> None:
        """Record the time that `units` of some work took."""
        if units > 0:
            self.costs[name] = seconds / units

    def cost(self, name: str, units: float = 1) -> float:
        """Planned seconds for `units` of some work.

        Raises:
            KeyError: it was never measured.
        """
        return SAFETY * units * self.costs[name]

    def affords(self, name: str, units: float = 1, share: float = 1.0) -> bool:
        """Whether `units` of some work fit into a share of the free seconds."""
        return self.cost(name, units) <= share * self.free


def minutes_for(seconds: float) -> float:
    """Seconds rounded up to whole minutes, or below one minute to tenths."""
    return math.ceil(seconds / 60) if seconds > 60 else math.ceil(seconds / 6) / 10


def spoken(seconds: float) -> str:
    """A duration for a log: `48 s`, `3 min 05 s`."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"

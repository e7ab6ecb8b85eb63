"""A rule about training that stalls.

Source: the SageMaker developer guide's list of built-in Debugger rules.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from container.monitoring.debugger.rules.base import DebugRule


@dataclass(kw_only=True, eq=False)
class StalledTrainingRule(DebugRule):
    """Fires when no tensor was saved for more than `threshold` seconds; once a stall.

    The time counts from the rule's creation or the last saved step; `invoke_at_time` checks it
    while no step is saved. A stall that is over already, when steps are evaluated afterwards, is
    found by the times at which they were saved.

    Args:
        base_trial: an smdebug trial; with `time_of(step)`, if steps are evaluated later.
        threshold: seconds.
        stop_training_on_fire: whether training ends when it fires.
        training_job_name_prefix: the jobs SageMaker's own rule would stop; here it can only be the
            job the rule runs in, so it is accepted and not used.
        clock: monotonic seconds.
    """

    threshold: float
    stop_training_on_fire: bool
    training_job_name_prefix: str | None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """The time begins to count."""
        super().__post_init__()
        self._since = self.clock()
        self._saved_at: float | None = None
        self._fired = False

    def invoke_at_step(self, step: int) -> bool:
        """Whether a saved step came too long after the one before."""
        fired, self._fired = self._fired, False
        self._since = self.clock()
        self.points += 1
        before = self._saved_at
        self._saved_at = self._time_of(step)
        if fired or before is None or self._saved_at - before <= self.threshold:
            return False
        return self._fire(self._saved_at - before)

    def invoke_at_time(self) -> bool:
        """Whether the last saved step is too long ago."""
        waited = self.clock() - self._since
        if self._fired or waited <= self.threshold:
            return False
        self._fired = True
        return self._fire(waited)

    def _fire(self, seconds: float) -> bool:
        return self.fire(f"nothing was saved for {seconds:.3g} s, longer than {self.threshold:g} s")

    def _time_of(self, step: int) -> float:
        time_of = getattr(self.base_trial, "time_of", None)
        return float(time_of(step)) if time_of else time.time()

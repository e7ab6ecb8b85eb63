"""A rule about time: training that stands still.

Source: the SageMaker developer guide's list of built-in Debugger rules.
"""

import time
from collections.abc import Callable
from typing import Any

from container.monitoring.debugger.rules.base import DebugRule


class StalledTrainingRule(DebugRule):
    """Fires when no tensor was saved for more than `threshold` seconds; once a standstill.

    It is judged by the clock, from when the rule was made or the last step was saved:
    `invoke_at_time` says whether the time has run out while nothing comes. A standstill that is
    over already, because the steps are looked at afterwards, shows in the times at which they were
    saved.

    Args:
        base_trial: an smdebug trial; one with `time_of(step)` says when a step was saved.
        threshold: seconds.
        stop_training_on_fire: whether training ends when it fires.
        training_job_name_prefix: the jobs SageMaker's own rule would stop; here it can only be the
            job the rule runs in, so it is accepted and not used.
        clock: seconds that do not jump; for tests.
    """

    def __init__(
        self,
        base_trial: Any,
        *,
        threshold: float,
        stop_training_on_fire: bool,
        training_job_name_prefix: str | None,  # noqa: ARG002
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(base_trial)
        self.stop_training_on_fire = stop_training_on_fire
        self._threshold, self._clock = threshold, clock
        self._since = clock()
        self._saved_at: float | None = None
        self._fired = False

    def invoke_at_step(self, step: int) -> bool:
        """A step was saved: was it too long after the one before?"""
        fired, self._fired = self._fired, False
        self._since = self._clock()
        self.points += 1
        before = self._saved_at
        self._saved_at = self._time_of(step)
        if fired or before is None or self._saved_at - before <= self._threshold:
            return False
        return self._fire(self._saved_at - before)

    def invoke_at_time(self) -> bool:
        """Nothing was saved just now: is it too long ago?"""
        waited = self._clock() - self._since
        if self._fired or waited <= self._threshold:
            return False
        self._fired = True
        return self._fire(waited)

    def _fire(self, seconds: float) -> bool:
        return self.fire(
            f"nothing was saved for {seconds:.3g} s, longer than {self._threshold:g} s"
        )

    def _time_of(self, step: int) -> float:
        time_of = getattr(self.base_trial, "time_of", None)
        return float(time_of(step)) if time_of else time.time()

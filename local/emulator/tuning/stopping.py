"""Which running trials are stopped before their end: the median rule and Hyperband's brackets."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local.emulator.tuning.search import Direction

MEDIAN_TRIALS = 3
"""How many trials must have ended on their own before the median rule stops any.

The developer guide (Stop Training Jobs Early) gives the rule and names no number; a median
of fewer is meaningless.
"""

REDUCTION = 3
"""Hyperband promotes one trial in three, as its authors advise (Li et al., JMLR 2018)."""


def better(direction: Direction, value: float, than: float) -> bool:
    """Whether an objective is better than another; a NaN is better than nothing."""
    return value > than if direction == "Maximize" else value < than


def below_median(
    direction: Direction, reports: Sequence[float], ended: Sequence[Sequence[float]]
) -> bool:
    """The rule of `TrainingJobEarlyStoppingType: Auto`, for a trial's latest report.

    As the developer guide has it: the running average of every earlier trial up to the same report,
    the median of these averages, and the trial is stopped when its value is worse.

    Args:
        direction: which way the objective is better.
        reports: the trial's values so far.
        ended: the values of the trials that ended, whether stopped early or not.
    """
    step = len(reports)
    if step == 0:
        return False
    averages = [statistics.fmean(each[:step]) for each in ended if len(each) >= step]
    averages = [average for average in averages if math.isfinite(average)]
    if len(averages) < MEDIAN_TRIALS:
        return False
    median = statistics.median(averages)
    return not (reports[-1] == median or better(direction, reports[-1], median))


@dataclass(frozen=True)
class Hyperband:
    """Brackets of asynchronous successive halving; a resource is one report of the objective.

    A trial belongs to a bracket by its number. At each rung of its bracket it is promoted when it
    is among the best third of the trials that reached that rung before it, itself included, or the
    best of them while there are fewer than three. No trial waits for a rung to fill up.

    Attributes:
        low: `MinResource`: no trial is stopped before so many reports.
        high: `MaxResource`: every trial is stopped after so many.
    """

    low: int
    high: int

    @property
    def brackets(self) -> int:
        """How many brackets there are."""
        count = 1
        while self.low * REDUCTION**count <= self.high:
            count += 1
        return count

    def bracket(self, number: int) -> int:
        """A trial's bracket: 0 stops most eagerly, the last one stops none early.

        A round of brackets holds as many trials in each as the paper gives it, so that all
        brackets spend about as much.
        """
        last = self.brackets - 1
        sizes = [
            math.ceil((last + 1) * REDUCTION ** (last - bracket) / (last - bracket + 1))
            for bracket in range(last + 1)
        ]
        place = number % sum(sizes)
        for bracket, size in enumerate(sizes):
            if place < size:
                return bracket
            place -= size
        raise AssertionError("a place lies within the sum of the sizes")

    def rungs(self, bracket: int) -> list[int]:
        """After how many reports the trials of a bracket are compared."""
        rung, rungs = self.low * REDUCTION**bracket, []
        while rung < self.high:
            rungs.append(rung)
            rung *= REDUCTION
        return rungs

    def loses(
        self,
        direction: Direction,
        number: int,
        reports: Sequence[float],
        others: Mapping[int, Sequence[float]],
    ) -> bool:
        """Whether a trial is out at its latest report.

        Args:
            direction: which way the objective is better.
            number: the trial's.
            reports: its values so far.
            others: the other trials' values so far, by number.
        """
        bracket, rung = self.bracket(number), len(reports)
        if rung not in self.rungs(bracket):
            return False
        if not math.isfinite(reports[-1]):
            return True
        rivals = [
            each[rung - 1]
            for other, each in others.items()
            if self.bracket(other) == bracket and len(each) >= rung
        ]
        ahead = sum(better(direction, value, reports[-1]) for value in rivals)
        return ahead >= max(1, (len(rivals) + 1) // REDUCTION)

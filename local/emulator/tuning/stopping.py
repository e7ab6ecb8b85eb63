"""Early stopping of trials: the median rule and Hyperband's brackets."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local.emulator.tuning.search import Direction

MEDIAN_TRIALS = 3
"""Fewest ended trials for the median rule.

The developer guide (Stop Training Jobs Early) describes the rule without a number; a median of
fewer values is meaningless.
"""

REDUCTION = 3
"""Hyperband promotes a third of the trials, as its authors recommend (Li et al., JMLR 2018)."""


def better(direction: Direction, value: float, than: float) -> bool:
    """Whether an objective is better than another; NaN is never better."""
    return value > than if direction == "Maximize" else value < than


def below_median(
    direction: Direction, reports: Sequence[float], ended: Sequence[Sequence[float]]
) -> bool:
    """The median rule of `TrainingJobEarlyStoppingType: Auto`, for a trial's latest report.

    As in the developer guide, the trial is stopped if its value is worse than the median of the
    running averages of all earlier trials up to the same report.

    Args:
        direction: whether the objective is minimized or maximized.
        reports: the trial's values so far.
        ended: the values of the trials that have ended, early or not.
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

    A trial's number determines its bracket. At each rung of the bracket, the trial is promoted if
    it is among the best third of the trials that have reached the rung, including itself, or the
    best of fewer than three. No trial waits for others.

    Attributes:
        low: `MinResource`: reports before which no trial is stopped.
        high: `MaxResource`: reports after which every trial is stopped.
    """

    low: int
    high: int

    @property
    def brackets(self) -> int:
        """The number of brackets."""
        count = 1
        while self.low * REDUCTION**count <= self.high:
            count += 1
        return count

    def bracket(self, number: int) -> int:
        """A trial's bracket: 0 stops trials earliest, the last one stops none early.

        A round has as many trials in each bracket as in the paper, so that all brackets use about
        the same resources.
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
        raise AssertionError("a place is less than the sum of the sizes")

    def rungs(self, bracket: int) -> list[int]:
        """The numbers of reports at which the trials of a bracket are compared."""
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
        """Whether a trial is stopped at its latest report.

        Args:
            direction: whether the objective is minimized or maximized.
            number: the trial's number.
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

"""The progress of a tuning job: counters, best trial, and whether it is complete."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from local.emulator.tuning.plan import TuningPlan
from local.emulator.tuning.search import Direction
from local.emulator.tuning.stopping import better
from local.emulator.tuning.trials import TuningTrial

ATTEMPTS = 5
"""After so many trials of which none succeeded SageMaker gives up.

Its FailureReason then: "No training job succeeded after 5 attempts. Please take a look at the
training job failures to get more details." (aws/amazon-sagemaker-examples#2436, #2437)
"""

IMPROVEMENT = 0.01
"""An objective that is better by less than 1% improves nothing (API reference,
BestObjectiveNotImproving and ConvergenceDetected)."""

CONVERGED = 10
"""Convergence: no improvement in the last half of the trials, and in no fewer than these.

SageMaker's own criteria are not public ("developed over a wide range of diverse benchmarking
tests").
"""

FAILURE_REASON = 1024
"""The longest FailureReason, in characters (API reference)."""

LINES = 8
"""How many last log lines a FailureReason quotes, as far as they fit."""

Status = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True)
class TuningOutcome:
    """How a tuning job ends, decided while trials may still be running.

    Attributes:
        status: what it becomes.
        reason: FailureReason, of a Failed one.
    """

    status: Status
    reason: str | None = None


def training_counters(trials: Sequence[TuningTrial]) -> dict[str, int]:
    """TrainingJobStatusCounters."""
    statuses = Counter(
        "InProgress"
        if each.status is None
        else ("RetryableError" if each.retryable else "NonRetryableError")
        if each.status == "Failed"
        else each.status
        for each in trials
    )
    names = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
    return {name: statuses[name] for name in names}


def objective_counters(trials: Sequence[TuningTrial]) -> dict[str, int]:
    """ObjectiveStatusCounters."""
    statuses = Counter(each.objective_status for each in trials)
    return {
        "Succeeded": statuses["Succeeded"],
        "Pending": statuses["Pending"],
        "Failed": statuses["Failed"],
    }


def best(direction: Direction, trials: Sequence[TuningTrial]) -> TuningTrial | None:
    """The trial with the best final objective; the earlier one of two equal ones."""
    sign = 1 if direction == "Maximize" else -1
    scores = [(sign * each.objective, each) for each in trials if each.objective is not None]
    return max(scores, key=lambda pair: pair[0])[1] if scores else None


def not_improving(direction: Direction, trials: Sequence[TuningTrial]) -> int:
    """How many trials ended since the best objective last improved by 1% or more."""
    count, mark = 0, math.nan
    for each in sorted((each for each in trials if each.status), key=lambda each: each.ended):
        if each.objective is None:
            continue
        gain = (each.objective - mark) * (1 if direction == "Maximize" else -1)
        if math.isnan(mark) or (gain > 0 and gain >= IMPROVEMENT * abs(mark)):
            count, mark = 0, each.objective
        else:
            count += 1
    return count


def converged(direction: Direction, trials: Sequence[TuningTrial]) -> bool:
    """Whether more trials promise no improvement."""
    evaluated = sum(each.objective is not None for each in trials)
    return not_improving(direction, trials) >= max(CONVERGED, math.ceil(evaluated / 2))


def verdict(
    plan: TuningPlan, trials: Sequence[TuningTrial], seconds: float
) -> TuningOutcome | None:
    """Whether the tuning job is over; None while it runs.

    Args:
        plan: the tuning job.
        trials: all its trials so far.
        seconds: how long it has run.
    """
    ended = [each for each in trials if each.status is not None]
    top = best(plan.direction, trials)
    if top is None and len(ended) >= ATTEMPTS:
        return TuningOutcome("Failed")
    points = {each.number for each in trials}
    if len(points) == plan.total and len(ended) == len(trials):
        return TuningOutcome("Completed")
    if plan.seconds is not None and seconds >= plan.seconds:
        return TuningOutcome("Completed")
    if top is None or top.objective is None:
        return None
    reached = plan.target is not None and not better(plan.direction, plan.target, top.objective)
    stale = not_improving(plan.direction, trials)
    impatient = plan.patience is not None and stale >= plan.patience
    if reached or impatient or (plan.converge and converged(plan.direction, trials)):
        return TuningOutcome("Completed")
    return None


def failure(
    plan: TuningPlan,
    trials: Sequence[TuningTrial],
    reason: Callable[[str], str],
    last_lines: Callable[[str, int], Sequence[str]],
) -> str | None:
    """Why a tuning job without any objective failed; None when a trial has one.

    Args:
        plan: the tuning job.
        trials: all its trials.
        reason: a training job's own FailureReason.
        last_lines: a training job's last log lines.
    """
    if best(plan.direction, trials) is not None:
        return None
    own = [each for each in trials if each.status and each.stopped_by != "ending"]
    ran = [each for each in own if each.status != "Failed"]
    if not own:
        text = (
            f"The tuning job ended after its MaxRuntimeInSeconds ({plan.seconds}) and before any "
            f"training job emitted the objective metric {_metrics(plan, trials)}."
        )
    elif not ran:
        text = (
            f"No training job succeeded after {len(own)} attempts. Please take a look at the "
            f"training job failures to get more details. {own[-1].name}: {reason(own[-1].name)}"
        )
    elif any(each.reports for each in ran):
        values = ", ".join(str(each.reports[-1]) for each in ran if each.reports)
        text = f"The objective metric {_metrics(plan, ran)} ended as no finite number: {values}."
    else:
        definition = plan.definitions[ran[-1].definition]
        text = (
            f"No objective metrics found after running {len(own)} training jobs. Please ensure "
            "that the custom algorithm is emitting the objective metric as defined by the regular "
            f"expression provided: {definition.metric} by {definition.regex[:200]!r}. The last "
            f"lines of {ran[-1].name}: "
        )
        lines = " | ".join(last_lines(ran[-1].name, LINES)) or "(none)"
        text += lines[-(FAILURE_REASON - len(text)) :]
    return text[:FAILURE_REASON]


def _metrics(plan: TuningPlan, trials: Sequence[TuningTrial]) -> str:
    """The names of the objectives of some trials; of all definitions' without any."""
    numbers = sorted({each.definition for each in trials}) or range(len(plan.definitions))
    return " or ".join(dict.fromkeys(plan.definitions[number].metric for number in numbers))

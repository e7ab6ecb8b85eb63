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
"""Failed trials after which SageMaker gives up if none has succeeded.

Its FailureReason is "No training job succeeded after 5 attempts. Please take a look at the training
job failures to get more details." (aws/amazon-sagemaker-examples#2436, #2437)
"""

IMPROVEMENT = 0.01
"""Smallest relative improvement that counts: 1% (API reference, BestObjectiveNotImproving and
ConvergenceDetected)."""

CONVERGED = 10
"""Fewest trials without improvement for convergence, which also needs half of all trials.

SageMaker's own criteria are not public ("developed over a wide range of diverse benchmarking
tests").
"""

FAILURE_REASON = 1024
"""Most characters in a FailureReason (API reference)."""

LINES = 8
"""Most log lines that a FailureReason quotes."""

Status = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True)
class TuningOutcome:
    """The outcome of a tuning job, which is decided while trials may still be running.

    Attributes:
        status: its final status.
        reason: its FailureReason, if it failed.
    """

    status: Status
    reason: str | None = None


def training_counters(trials: Sequence[TuningTrial]) -> dict[str, int]:
    """The TrainingJobStatusCounters."""
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
    """The ObjectiveStatusCounters."""
    statuses = Counter(each.objective_status for each in trials)
    return {
        "Succeeded": statuses["Succeeded"],
        "Pending": statuses["Pending"],
        "Failed": statuses["Failed"],
    }


def best(direction: Direction, trials: Sequence[TuningTrial]) -> TuningTrial | None:
    """The trial with the best final objective; the first one if several are equal."""
    sign = 1 if direction == "Maximize" else -1
    scores = [(sign * each.objective, each) for each in trials if each.objective is not None]
    return max(scores, key=lambda pair: pair[0])[1] if scores else None


def not_improving(direction: Direction, trials: Sequence[TuningTrial]) -> int:
    """The number of trials that ended since the best objective last improved by 1% or more."""
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
    """Whether the search has converged; see `CONVERGED`."""
    evaluated = sum(each.objective is not None for each in trials)
    return not_improving(direction, trials) >= max(CONVERGED, math.ceil(evaluated / 2))


def verdict(
    plan: TuningPlan, trials: Sequence[TuningTrial], seconds: float
) -> TuningOutcome | None:
    """The outcome if the tuning job is complete or has failed; None if it continues.

    Args:
        plan: the tuning job.
        trials: its trials so far.
        seconds: its runtime so far.
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
    """The FailureReason of a tuning job without any objective value; None if a trial has one.

    Args:
        plan: the tuning job.
        trials: its trials.
        reason: returns a training job's FailureReason.
        last_lines: returns a training job's last log lines.
    """
    if best(plan.direction, trials) is not None:
        return None
    own = [each for each in trials if each.status and each.stopped_by != "ending"]
    ran = [each for each in own if each.status != "Failed"]
    if not own:
        text = (
            f"The tuning job reached its MaxRuntimeInSeconds ({plan.seconds}) before any training "
            f"job emitted the objective metric {_metrics(plan, trials)}."
        )
    elif not ran:
        text = (
            f"No training job succeeded after {len(own)} attempts. Please take a look at the "
            f"training job failures to get more details. {own[-1].name}: {reason(own[-1].name)}"
        )
    elif any(each.reports for each in ran):
        values = ", ".join(str(each.reports[-1]) for each in ran if each.reports)
        text = f"The final objective metric {_metrics(plan, ran)} is not a finite number: {values}."
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
    """The names of the objectives of some trials; without trials, of all definitions."""
    numbers = sorted({each.definition for each in trials}) or range(len(plan.definitions))
    return " or ".join(dict.fromkeys(plan.definitions[number].metric for number in numbers))

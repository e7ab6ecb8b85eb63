"""Warm start: the trials that a tuning job inherits from its parents.

They are copied when the tuning job starts, because a parent may be deleted later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from local.emulator.store import Kind, Record, Store
from local.emulator.tuning.plan import TuningPlan, read
from local.emulator.tuning.search import Known, standardized
from local.emulator.tuning.trials import load as load_trials


def inherited(plan: TuningPlan, store: Store) -> list[dict[str, Any]]:
    """The parents' trials within the ranges of this tuning job, oldest first, as dicts of `Known`.

    A tuned hyperparameter that was static in a parent has its static value. With
    `TransferLearning`, objectives are standardized for each parent.
    """
    found: list[Known] = []
    if not plan.parents:
        return []
    [own] = plan.definitions
    for parent in _parents(plan, store):
        [theirs] = read(parent.private["request"]).definitions
        trials = []
        for trial in load_trials(parent.private["trials"]):
            texts = {**theirs.static, **theirs.space.texts(trial.values)}
            values, known = own.space.read(texts), trial.known()
            if values is not None and known.state in ("complete", "pruned"):
                trials.append(Known(values, known.state, known.objective, known.reports))
        found += trials if plan.identical else standardized(trials)
    return [asdict(each) for each in found]


def load(stored: Sequence[Mapping[str, Any]]) -> list[Known]:
    """Load the result of `inherited` from a record."""
    return [Known(**{**each, "reports": tuple(each["reports"])}) for each in stored]


def best(plan: TuningPlan, store: Store) -> dict[str, Any] | None:
    """The best training job of the parents, in the API's shape.

    It is only defined for IdenticalDataAndAlgorithm (API reference, OverallBestTrainingJob).
    """
    if not plan.identical:
        return None
    return overall(
        plan,
        [
            {**parent.body["BestTrainingJob"], "TuningJobName": parent.name}
            for parent in _parents(plan, store)
            if "BestTrainingJob" in parent.body
        ],
    )


def overall(plan: TuningPlan, jobs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best of several training jobs in the API's shape; the first one if several are equal."""
    sign = 1 if plan.direction == "Maximize" else -1

    def score(job: dict[str, Any]) -> float:
        value: float = job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
        return sign * value

    return max(jobs, key=score, default=None)


def _parents(plan: TuningPlan, store: Store) -> list[Record]:
    return [store.get(Kind.TUNING_JOB, name) for name in plan.parents]

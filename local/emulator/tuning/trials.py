"""The trials of a tuning job, and their training jobs.

A training job's record has the trial's results in `Record.private["tuning"]`: `TuningJobName`,
`TunedHyperParameters`, `ObjectiveStatus` and, if available,
`FinalHyperParameterTuningJobObjectiveMetric` and `TrainingJobDefinitionName`, in the API's shape.
`summary` converts the record to an entry of ListTrainingJobsForHyperParameterTuningJob.
"""

import copy
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from local.emulator.store import Record
from local.emulator.tuning.plan import Definition, TuningPlan, machines_of
from local.emulator.tuning.ranges import Value
from local.emulator.tuning.search import Known, State

OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"
"""The hyperparameter that SageMaker sets to the objective metric."""

COPIED = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "RetryStrategy",
    "Environment",
)
"""Members of a definition that CreateTrainingJob has under the same name."""

Reason = Literal["median", "bracket", "resource", "ending"]


@dataclass
class TuningTrial:
    """A trial.

    Attributes:
        number: the number of its point, from 0; a lost trial and its retry have the same.
        name: name of its training job.
        values: its point of the space.
        status: the training job's final status; None until it ends.
        stopped_by: why the tuning job stopped it: the median rule, its bracket, the maximum
            resource, or the end of the tuning job.
        reports: all values of the objective, after it has ended.
        retryable: whether it failed with an internal error.
        ended: Unix time of its end.
        definition: index of its training job definition.
    """

    number: int
    name: str
    values: dict[str, Value]
    status: str | None = None
    stopped_by: Reason | None = None
    reports: list[float] = field(default_factory=list)
    retryable: bool = False
    ended: float = 0.0
    definition: int = 0

    @property
    def objective(self) -> float | None:
        """The final objective: "the latest objective metric emitted by a training job" (API
        reference, FinalHyperParameterTuningJobObjectiveMetric). It is None while the trial is
        running, if it failed, and if the value is not finite.
        """
        if self.status not in ("Completed", "Stopped") or not self.reports:
            return None
        return self.reports[-1] if math.isfinite(self.reports[-1]) else None

    @property
    def objective_status(self) -> Literal["Pending", "Succeeded", "Failed"]:
        """Whether the objective was evaluated."""
        if self.status is None:
            return "Pending"
        return "Failed" if self.objective is None else "Succeeded"

    def known(self) -> Known:
        """The results for the search."""
        state: State = "running"
        if self.status is not None:
            whole = self.status == "Completed" or self.stopped_by == "resource"
            state = "failed" if self.objective is None else "complete" if whole else "pruned"
        reports = tuple(self.reports) if state in ("complete", "pruned") else ()
        return Known(dict(self.values), state, self.objective, reports)

    def stored(self) -> dict[str, Any]:
        """The trial as JSON values."""
        return asdict(self)


def fresh(plan: TuningPlan, launched: int, number: int, values: dict[str, Value]) -> TuningTrial:
    """A new trial, with a name as on SageMaker.

    Args:
        plan: the tuning job.
        launched: number of earlier trials.
        number: number of its point.
        values: its point.
    """
    name = f"{plan.name}-{launched + 1:03d}-{secrets.token_hex(4)}"
    return TuningTrial(number, name, values, definition=plan.place(number)[0])


def training_request(
    plan: TuningPlan, trial: TuningTrial, most_hosts: int | None = None
) -> dict[str, Any]:
    """The CreateTrainingJob request of a trial.

    Each trial has its own prefix for checkpoints, so that none resumes from another's.

    Args:
        plan: the tuning job.
        trial: the trial.
        most_hosts: most hosts of a training job; None for no limit.
    """
    definition = plan.definitions[trial.definition]
    content = definition.content
    request: dict[str, Any] = {
        "TrainingJobName": trial.name,
        "HyperParameters": {
            **definition.static,
            **definition.space.texts(trial.values),
            OBJECTIVE_HYPERPARAMETER: definition.metric,
        },
        "ResourceConfig": machines_of(content, most_hosts),
    }
    request |= {key: content[key] for key in COPIED if key in content}
    if "CheckpointConfig" in content:
        checkpoints = content["CheckpointConfig"]
        uri = f"{checkpoints['S3Uri'].rstrip('/')}/{trial.name}"
        request["CheckpointConfig"] = {**checkpoints, "S3Uri": uri}
    if plan.tags:
        request["Tags"] = plan.tags
    return copy.deepcopy(request)


def facts(plan: TuningPlan, trial: TuningTrial) -> dict[str, Any]:
    """The value of `private["tuning"]` in the record of a trial's training job."""
    definition = plan.definitions[trial.definition]
    found: dict[str, Any] = {
        "TuningJobName": plan.name,
        "TunedHyperParameters": definition.space.texts(trial.values),
        "ObjectiveStatus": trial.objective_status,
    }
    if trial.objective is not None:
        found["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "Type": plan.direction,
            "MetricName": definition.metric,
            "Value": trial.objective,
        }
    elif trial.status in ("Completed", "Stopped"):
        found["FailureReason"] = _without_objective(trial, definition)
    if definition.name is not None:
        found["TrainingJobDefinitionName"] = definition.name
    return found


def summary(job: Record) -> dict[str, Any]:
    """A trial's training job as a HyperParameterTrainingJobSummary, without its TuningJobName."""
    body, tuning = job.body, job.private.get("tuning", {})
    shown = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "CreationTime": body.get("CreationTime", job.created),
        "TrainingJobStatus": body["TrainingJobStatus"],
        "TunedHyperParameters": tuning.get("TunedHyperParameters", {}),
        "ObjectiveStatus": tuning.get("ObjectiveStatus", "Pending"),
    }
    for key in ("TrainingStartTime", "TrainingEndTime", "FailureReason"):
        if body.get(key) is not None:
            shown[key] = body[key]
    for key in (
        "FinalHyperParameterTuningJobObjectiveMetric",
        "TrainingJobDefinitionName",
        "FailureReason",
    ):
        if key in tuning:
            shown.setdefault(key, tuning[key])
    return shown


def _without_objective(trial: TuningTrial, definition: Definition) -> str:
    """Why a trial that did not fail has no objective."""
    if trial.reports:
        return f"The final objective metric {definition.metric} is {trial.reports[-1]}."
    return (
        f"No objective metric found: no line of the log matched {definition.regex[:200]!r}, the "
        f"regular expression of {definition.metric}."
    )


def load(stored: Sequence[Mapping[str, Any]]) -> list[TuningTrial]:
    """Load the trials from a tuning job's record."""
    return [TuningTrial(**each) for each in stored]

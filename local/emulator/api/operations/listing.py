"""List operations, with their filters, sort orders and pages."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.emulator.api import defaults
from local.emulator.api.operations.resources import TUNING_JOB, Resource
from local.emulator.api.pagination import Key, page
from local.emulator.api.serializer import Response
from local.emulator.services import Services
from local.emulator.shapes.parser import Request
from local.emulator.store import Kind, Record
from local.emulator.tuning.trials import summary

OBJECTIVE_METRIC = "FinalHyperParameterTuningJobObjectiveMetric"


@dataclass(frozen=True)
class Listing:
    """One List operation.

    Attributes:
        resource: the resource.
        items: the response's member for the list.
        members: members of the Describe response to include in a summary.
        more: returns additional members of a summary.
        accepts: applies filters that not all List operations have.
        order: default SortBy.
        descending: whether the default SortOrder is Descending.
    """

    resource: Resource
    items: str
    members: tuple[str, ...]
    more: Callable[[Record], dict[str, Any]] | None = None
    accepts: Callable[[Record, Request], bool] | None = None
    order: str = "CreationTime"
    descending: bool = True

    def __call__(self, services: Services, request: Request) -> Response:
        """Handle a request."""
        kind, order = self.resource.kind, request.get("SortOrder")
        chosen, token = page(
            [record for record in services.store.every(kind) if self._match(record, request)],
            request,
            lambda record: self._key(record, request.get("SortBy", self.order)),
            descending=self.descending if order is None else order == "Descending",
        )
        return {self.items: [self._summary(record) for record in chosen], "NextToken": token}

    def _summary(self, record: Record) -> dict[str, Any]:
        own = {name: record.body[name] for name in self.members if name in record.body}
        return own | (self.more(record) if self.more else {})

    def _key(self, record: Record, order: str) -> Key:
        if order == "Name":
            return record.name, record.name
        if order == "Status":
            return record.body[f"{self.resource.prefix}Status"], record.name
        return _created(record).timestamp(), record.name

    def _match(self, record: Record, request: Request) -> bool:
        if request.get("NameContains", "") not in record.name:
            return False
        status = request.get("StatusEquals")
        if status is not None and record.body[f"{self.resource.prefix}Status"] != status:
            return False
        for member, moment in (("Creation", _created(record)), ("LastModified", record.modified)):
            after, before = request.get(f"{member}TimeAfter"), request.get(f"{member}TimeBefore")
            if (after and moment <= after) or (before and moment >= before):
                return False
        return self.accepts is None or self.accepts(record, request)


def _created(record: Record) -> datetime:
    created: datetime = record.body.get("CreationTime", record.created)
    return created


def last_modified(record: Record) -> dict[str, Any]:
    """`LastModifiedTime`, for a resource whose Describe response has none."""
    return {"LastModifiedTime": record.modified}


def warm_pool(record: Record) -> dict[str, Any]:
    """The `WarmPoolStatus` of a training job."""
    return defaults.warm_pool(record.body)


def warm_pool_matches(record: Record, request: Request) -> bool:
    """The filters of ListTrainingJobs for warm pools and training plans, which are unsupported."""
    if "TrainingPlanArnEquals" in request:
        return False
    wanted = request.get("WarmPoolStatusEquals")
    return wanted is None or warm_pool(record).get("WarmPoolStatus", {}).get("Status") == wanted


def tuning_limits(record: Record) -> dict[str, Any]:
    """A tuning job's strategy and limits."""
    return {
        "Strategy": record.body["HyperParameterTuningJobConfig"]["Strategy"],
        "ResourceLimits": defaults.resource_limits(record.body),
    }


def list_training_jobs_of_tuning_job(services: Services, request: Request) -> Response:
    """ListTrainingJobsForHyperParameterTuningJob."""
    tuning = TUNING_JOB.find(services, request)
    trials = [
        {**summary(record), "TuningJobName": tuning.name}
        for record in services.store.every(Kind.TRAINING_JOB)
        if record.body.get("TuningJobArn") == tuning.arn
    ]
    status, order = request.get("StatusEquals"), request.get("SortBy", "Name")
    if order == "FinalObjectiveMetricValue":
        trials = [trial for trial in trials if OBJECTIVE_METRIC in trial]

    def key(trial: dict[str, Any]) -> Key:
        name = trial["TrainingJobName"]
        match order:
            case "Name":
                return name, name
            case "Status":
                return trial["TrainingJobStatus"], name
            case "CreationTime":
                return trial["CreationTime"].timestamp(), name
            case _:
                return trial[OBJECTIVE_METRIC]["Value"], name

    chosen, token = page(
        [trial for trial in trials if status in (None, trial["TrainingJobStatus"])],
        request,
        key,
        descending=request.get("SortOrder") == "Descending",
    )
    return {"TrainingJobSummaries": chosen, "NextToken": token}

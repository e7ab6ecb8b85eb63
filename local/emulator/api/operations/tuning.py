"""Hyperparameter tuning jobs and their training jobs."""

from typing import Any

from local.emulator.api import defaults
from local.emulator.api.operations.answering import (
    Answer,
    Operation,
    Request,
    check_free,
    delete_job,
    find,
)
from local.emulator.api.operations.listing import Listing
from local.emulator.api.pagination import Key, page
from local.emulator.api.validation import check_tuning
from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind, Record
from local.emulator.tuning.trials import summary

KIND = Kind.TUNING_JOB

METRIC = "FinalHyperParameterTuningJobObjectiveMetric"


def create(services: Services, request: Request) -> Answer:
    """CreateHyperParameterTuningJob."""
    name = request["HyperParameterTuningJobName"]
    check_free(services, KIND, name)
    check_tuning(request, services)
    return {"HyperParameterTuningJobArn": services.tuning.create(request).arn}


def describe(context: Context, request: Request) -> Answer:
    """DescribeHyperParameterTuningJob."""
    return defaults.tuning_job(find(context, KIND, request["HyperParameterTuningJobName"]).body)


def stop(services: Services, request: Request) -> Answer:
    """StopHyperParameterTuningJob."""
    services.tuning.stop(find(services, KIND, request["HyperParameterTuningJobName"]).name)
    return None


def delete(context: Context, request: Request) -> Answer:
    """DeleteHyperParameterTuningJob, which leaves its training jobs."""
    delete_job(
        context, KIND, request["HyperParameterTuningJobName"], "HyperParameterTuningJobStatus"
    )
    return None


def _limits(record: Record) -> dict[str, Any]:
    config = record.body["HyperParameterTuningJobConfig"]
    return {
        "Strategy": config["Strategy"],
        "ResourceLimits": defaults.resource_limits(record.body),
    }


def training_jobs(context: Context, request: Request) -> Answer:
    """ListTrainingJobsForHyperParameterTuningJob."""
    tuning = find(context, KIND, request["HyperParameterTuningJobName"])
    trials = [
        {**summary(record), "TuningJobName": tuning.name}
        for record in context.store.every(Kind.TRAINING_JOB)
        if record.body.get("TuningJobArn") == tuning.arn
    ]
    status, order = request.get("StatusEquals"), request.get("SortBy", "Name")
    if order == "FinalObjectiveMetricValue":
        trials = [trial for trial in trials if METRIC in trial]

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
                return trial[METRIC]["Value"], name

    chosen, token = page(
        [trial for trial in trials if status in (None, trial["TrainingJobStatus"])],
        request,
        key,
        descending=request.get("SortOrder") == "Descending",
    )
    return {"TrainingJobSummaries": chosen, "NextToken": token}


OPERATIONS: dict[str, Operation] = {
    "CreateHyperParameterTuningJob": create,
    "DescribeHyperParameterTuningJob": describe,
    "StopHyperParameterTuningJob": stop,
    "DeleteHyperParameterTuningJob": delete,
    "ListTrainingJobsForHyperParameterTuningJob": training_jobs,
    "ListHyperParameterTuningJobs": Listing(
        KIND,
        "HyperParameterTuningJob",
        "HyperParameterTuningJobSummaries",
        (
            "HyperParameterTuningJobName",
            "HyperParameterTuningJobArn",
            "HyperParameterTuningJobStatus",
            "CreationTime",
            "HyperParameterTuningEndTime",
            "LastModifiedTime",
            "TrainingJobStatusCounters",
            "ObjectiveStatusCounters",
        ),
        more=_limits,
        order="Name",
        descending=False,
    ),
}

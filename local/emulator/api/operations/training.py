"""Training jobs."""

from local.emulator.api import defaults
from local.emulator.api.operations.answering import (
    OVER,
    Answer,
    Operation,
    Request,
    check_free,
    delete_job,
    find,
)
from local.emulator.api.operations.listing import Listing
from local.emulator.api.operations.training_update import update
from local.emulator.api.validation import check_training
from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind, Record
from local.emulator.training.describe import utc_now
from local.emulator.training.metrics import latest
from local.emulator.training.opt_ml import FIRST_HOST
from local.emulator.training.rules import rules_now

KIND = Kind.TRAINING_JOB


def create(services: Services, request: Request) -> Answer:
    """CreateTrainingJob."""
    name = request["TrainingJobName"]
    check_free(services, KIND, name)
    check_training(request, services)
    return {"TrainingJobArn": services.training.create(request).arn}


def describe(services: Services, request: Request) -> Answer:
    """DescribeTrainingJob; while a job runs, with each metric's and rule's latest state."""
    job = find(services, KIND, request["TrainingJobName"])
    if job.body["TrainingJobStatus"] in OVER:
        return defaults.training_job(job.body)
    definitions = job.body["AlgorithmSpecification"].get("MetricDefinitions", ())
    so_far = latest(
        (definition["Name"] for definition in definitions), services.training.metrics(job.name)
    )
    rules = rules_now(job.body, services.home.job(KIND, job.name) / FIRST_HOST, utc_now())
    live = {**rules, **({"FinalMetricDataList": so_far} if so_far else {})}
    return defaults.training_job({**job.body, **live})


def stop(services: Services, request: Request) -> Answer:
    """StopTrainingJob."""
    services.training.stop(find(services, KIND, request["TrainingJobName"]).name)
    return None


def delete(context: Context, request: Request) -> Answer:
    """DeleteTrainingJob."""
    delete_job(context, KIND, request["TrainingJobName"], "TrainingJobStatus")
    return None


class TrainingListing(Listing):
    """ListTrainingJobs, which can be asked for warm pools, and for training plans: none is here."""

    def __call__(self, context: Context, request: Request) -> Answer:
        """Answer the operation."""
        jobs = [] if "TrainingPlanArnEquals" in request else context.store.every(KIND)
        if (status := request.get("WarmPoolStatusEquals")) is not None:
            jobs = [job for job in jobs if _pool_status(job) == status]
        return self.answer(request, jobs)


def _pool_status(job: Record) -> str | None:
    status: str | None = defaults.warm_pool(job.body).get("WarmPoolStatus", {}).get("Status")
    return status


OPERATIONS: dict[str, Operation] = {
    "CreateTrainingJob": create,
    "DescribeTrainingJob": describe,
    "StopTrainingJob": stop,
    "UpdateTrainingJob": update,
    "DeleteTrainingJob": delete,
    "ListTrainingJobs": TrainingListing(
        KIND,
        "TrainingJob",
        "TrainingJobSummaries",
        (
            "TrainingJobName",
            "TrainingJobArn",
            "CreationTime",
            "TrainingEndTime",
            "LastModifiedTime",
            "TrainingJobStatus",
            "SecondaryStatus",
        ),
        more=lambda record: defaults.warm_pool(record.body),
        descending=False,
    ),
}

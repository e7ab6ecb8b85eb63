"""Batch transform jobs."""

from local.emulator.api import defaults
from local.emulator.api.operations.answering import (
    Answer,
    Operation,
    Request,
    check_free,
    find,
)
from local.emulator.api.operations.listing import Listing
from local.emulator.api.validation import check_transform
from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind

KIND = Kind.TRANSFORM_JOB


def create(services: Services, request: Request) -> Answer:
    """CreateTransformJob."""
    name = request["TransformJobName"]
    check_free(services, KIND, name)
    check_transform(request, services)
    return {"TransformJobArn": services.transform.create(request).arn}


def describe(context: Context, request: Request) -> Answer:
    """DescribeTransformJob."""
    return defaults.transform_job(find(context, KIND, request["TransformJobName"]).body)


def stop(services: Services, request: Request) -> Answer:
    """StopTransformJob."""
    services.transform.stop(find(services, KIND, request["TransformJobName"]).name)
    return None


OPERATIONS: dict[str, Operation] = {
    "CreateTransformJob": create,
    "DescribeTransformJob": describe,
    "StopTransformJob": stop,
    "ListTransformJobs": Listing(
        KIND,
        "TransformJob",
        "TransformJobSummaries",
        (
            "TransformJobName",
            "TransformJobArn",
            "CreationTime",
            "TransformEndTime",
            "TransformJobStatus",
            "FailureReason",
        ),
        more=lambda record: {"LastModifiedTime": record.modified},
    ),
}

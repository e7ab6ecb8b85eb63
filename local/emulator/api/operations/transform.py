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
from local.emulator.api.rules import check_transform
from local.emulator.context import Context
from local.emulator.store import Kind

KIND = Kind.TRANSFORM_JOB


def create(context: Context, request: Request) -> Answer:
    """CreateTransformJob."""
    name = request["TransformJobName"]
    check_free(context, KIND, name)
    check_transform(request, context)
    return {"TransformJobArn": context.transform.create(request).arn}


def describe(context: Context, request: Request) -> Answer:
    """DescribeTransformJob."""
    return defaults.transform_job(find(context, KIND, request["TransformJobName"]).body)


def stop(context: Context, request: Request) -> Answer:
    """StopTransformJob."""
    context.transform.stop(find(context, KIND, request["TransformJobName"]).name)
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

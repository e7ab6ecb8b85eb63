"""SageMaker's jobs and endpoints: how each kind is listed, described and stopped."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from local.errors import UserError, code
from local.log_groups import ENDPOINTS, TRAINING_JOBS, TRANSFORM_JOBS

PAGE = 100


@dataclass(frozen=True)
class ResourceKind:
    """A kind of job, or the endpoint.

    Attributes:
        name: the displayed name, and the value of --kind.
        member: the prefix of its members in the API, such as `TrainingJob`.
        listing, describing: names of boto3 methods.
        summaries: the member of a list response that contains the entries.
        stopping: name of the boto3 method; None if it cannot be stopped.
    """

    name: str
    member: str
    listing: str
    describing: str
    summaries: str
    stopping: str | None

    @property
    def argument(self) -> str:
        """The API member for its name."""
        return f"{self.member}Name"

    @property
    def status(self) -> str:
        """The API member for its status."""
        return f"{self.member}Status"

    def log(self, name: str) -> tuple[str, str]:
        """The log group and the prefix of the stream names."""
        if self.name == "endpoint":
            return f"{ENDPOINTS}/{name}", ""
        return (TRANSFORM_JOBS if self.name == "transform" else TRAINING_JOBS), f"{name}/"


TRAIN = ResourceKind(
    "training",
    "TrainingJob",
    "list_training_jobs",
    "describe_training_job",
    "TrainingJobSummaries",
    "stop_training_job",
)
TUNE = ResourceKind(
    "tuning",
    "HyperParameterTuningJob",
    "list_hyper_parameter_tuning_jobs",
    "describe_hyper_parameter_tuning_job",
    "HyperParameterTuningJobSummaries",
    "stop_hyper_parameter_tuning_job",
)
TRANSFORMS = ResourceKind(
    "transform",
    "TransformJob",
    "list_transform_jobs",
    "describe_transform_job",
    "TransformJobSummaries",
    "stop_transform_job",
)
ENDPOINT = ResourceKind(
    "endpoint", "Endpoint", "list_endpoints", "describe_endpoint", "Endpoints", None
)
KINDS = (TRAIN, TUNE, TRANSFORMS, ENDPOINT)


@dataclass(frozen=True)
class ResourceSummary:
    """An entry of a list response; `ended` is None for running jobs and for endpoints."""

    kind: str
    name: str
    status: str
    created: datetime
    ended: datetime | None


def newest(
    client: Any, kind: ResourceKind, limit: int, status: str | None = None
) -> Iterator[ResourceSummary]:
    """Up to `limit` resources of a kind, newest first; with `status`, only those in it."""
    arguments = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    if status is not None:
        arguments["StatusEquals"] = status
    pages = client.get_paginator(kind.listing).paginate(
        **arguments, PaginationConfig={"PageSize": min(PAGE, limit)}
    )
    entries = (entry for page in pages for entry in page[kind.summaries])
    for entry in islice(entries, limit):
        yield ResourceSummary(
            kind.name,
            entry[kind.argument],
            entry[kind.status],
            entry["CreationTime"],
            entry.get("TrainingEndTime")
            or entry.get("HyperParameterTuningEndTime")
            or entry.get("TransformEndTime"),
        )


def describe(client: Any, kind: ResourceKind, name: str) -> dict[str, Any] | None:
    """The Describe response for a resource; None if it does not exist."""
    from botocore.exceptions import ClientError

    try:
        response: dict[str, Any] = getattr(client, kind.describing)(**{kind.argument: name})
    except ClientError as error:
        # ValidationException is for a missing endpoint, and for a name too long for a tuning job.
        if code(error) in ("ResourceNotFound", "ValidationException"):
            return None
        raise
    return response


def find(
    client: Any, name: str, kinds: tuple[ResourceKind, ...] = KINDS
) -> list[tuple[ResourceKind, dict[str, Any]]]:
    """Every resource with this name, and its Describe response; kinds may share a name.

    Raises:
        UserError: there is none.
    """
    found = [
        (kind, response) for kind in kinds if (response := describe(client, kind, name)) is not None
    ]
    if not found:
        expected = ", ".join(kind.name for kind in kinds)
        raise UserError(f"{name}: not found ({expected}); berth jobs lists jobs and endpoints")
    return found

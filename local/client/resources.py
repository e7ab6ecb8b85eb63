"""The kinds of things SageMaker keeps, and how each is listed, described and stopped."""

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
    """A kind of resource that has jobs or endpoints.

    Attributes:
        name: for people, and for --kind.
        member: how its members are called in the API, e.g. `TrainingJob`.
        listing, describing: boto3's methods.
        summaries: where a page of the listing has its entries.
        stopping: boto3's method; None for what cannot be stopped.
        argument: the API's name for its name.
    """

    name: str
    member: str
    listing: str
    describing: str
    summaries: str
    stopping: str | None

    @property
    def argument(self) -> str:
        """The member that holds its name."""
        return f"{self.member}Name"

    @property
    def status(self) -> str:
        """The member that holds its status."""
        return f"{self.member}Status"

    def log(self, name: str) -> tuple[str, str]:
        """Log group, and prefix of the streams' names."""
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
    """One entry of a listing; `ended` is None while it goes on, and for endpoints."""

    kind: str
    name: str
    status: str
    created: datetime
    ended: datetime | None


def newest(
    client: Any, kind: ResourceKind, limit: int, status: str | None = None
) -> Iterator[ResourceSummary]:
    """The newest ones of a kind, newest first; all of them or those of one status."""
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
    """A thing of this kind, None when there is none of this name."""
    from botocore.exceptions import ClientError

    try:
        answer: dict[str, Any] = getattr(client, kind.describing)(**{kind.argument: name})
    except ClientError as error:
        # A missing endpoint is a ValidationException, and so is a name of 33 letters or more for
        # a tuning job: neither is one.
        if code(error) in ("ResourceNotFound", "ValidationException"):
            return None
        raise
    return answer


def find(
    client: Any, name: str, kinds: tuple[ResourceKind, ...] = KINDS
) -> list[tuple[ResourceKind, dict[str, Any]]]:
    """Everything of this name; a job and an endpoint may share one.

    Raises:
        UserError: there is nothing of this name.
    """
    found = [
        (kind, answer) for kind in kinds if (answer := describe(client, kind, name)) is not None
    ]
    if not found:
        expected = ", ".join(kind.name for kind in kinds)
        raise UserError(
            f"{name}: nothing of this name ({expected}); berth jobs lists what there is"
        )
    return found

"""The kinds of resources: how each is found, stored, described and deleted, with AWS's errors."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.emulator.api import defaults
from local.emulator.api.operations.training import describe_training_job
from local.emulator.api.validation.tags import tags_of
from local.emulator.context import HOSTED, Context
from local.emulator.errors import ServiceError, in_use, invalid, not_found
from local.emulator.services import Services
from local.emulator.shapes.parser import Request
from local.emulator.store import Kind, Missing, Record
from local.statuses import TERMINAL


@dataclass(frozen=True)
class Resource:
    """A kind of resource.

    Attributes:
        kind: its kind in the store.
        prefix: prefix of its members in the API, such as `TrainingJob` in `TrainingJobName`.
        label: its name in AWS's messages.
        describe: returns the response of its Describe operation.
    """

    kind: Kind
    prefix: str
    label: str
    describe: Callable[[Services, Record], dict[str, Any]]

    def find(self, context: Context, request: Request) -> Record:
        """The resource that a request names.

        Raises:
            ServiceError: it does not exist; code and message are AWS's.
        """
        name: str = request[f"{self.prefix}Name"]
        try:
            return context.store.get(self.kind, name)
        except Missing:
            raise self.missing(context, name) from None

    def check_free(self, context: Context, request: Request) -> None:
        """Check that the name is not in use.

        Raises:
            ServiceError: it is.
        """
        try:
            context.store.get(self.kind, request[f"{self.prefix}Name"])
        except Missing:
            return
        raise self.taken(context, request)

    def add(self, context: Context, request: Request) -> Record:
        """Store a request and its tags, for a resource that does not run anything.

        Raises:
            Exists: the name is in use.
        """
        name: str = request[f"{self.prefix}Name"]
        arn = context.arn(self.kind, name)
        body = {key: value for key, value in request.items() if key != "Tags"}
        body |= {f"{self.prefix}Arn": arn, "CreationTime": datetime.now(UTC)}
        record = context.store.add(self.kind, name, arn, body)
        context.store.tag(arn, tags_of(request))
        return record

    def delete(self, context: Context, record: Record) -> None:
        """Delete a stored resource, even if it is in use, as on AWS.

        Raises:
            ServiceError: it has been deleted in the meantime.
        """
        try:
            context.store.delete(self.kind, record.name)
        except Missing:
            raise self.missing(context, record.name) from None

    def delete_job(self, context: Context, job: Record) -> None:
        """Delete a job that has ended, and its folder.

        Raises:
            ServiceError: it has not ended (`ResourceInUse`), or has been deleted in the meantime.
        """
        status = job.body[f"{self.prefix}Status"]
        if status not in TERMINAL:
            raise in_use(
                f"{job.arn} is {status}; only a job that is Completed, Failed or Stopped can be "
                "deleted."
            )
        self.delete(context, job)
        shutil.rmtree(context.home.job(self.kind, job.name), ignore_errors=True)

    def missing(self, context: Context, name: str) -> ServiceError:
        """AWS's error for a resource that does not exist.

        For a training job it is a ValidationException, although the API's model declares another.
        """
        if self.kind in HOSTED:
            return context.not_hosted(self.kind, name)
        if self.kind is Kind.TRANSFORM_JOB:
            return invalid(f"Could not find requested job with name: {name}.")
        if self.kind is Kind.TRAINING_JOB:
            return invalid("Requested resource not found.")
        return not_found(f"Requested resource not found: {self.label} {name}.")

    def taken(self, context: Context, request: Request) -> ServiceError:
        """AWS's error for a name that is in use."""
        name: str = request[f"{self.prefix}Name"]
        arn = context.arn(self.kind, name)
        if self.kind in HOSTED:
            return invalid(f'Cannot create already existing {self.label} "{arn}".')
        if self.kind is Kind.TRAINING_JOB:
            return in_use(
                "Training job names must be unique within an AWS account and region, and a "
                f"training job with this name already exists ({arn})"
            )
        return in_use(
            f"A {self.label} with the name {name} already exists. Choose a different name."
        )


def _filled(fill: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """A `Resource.describe` that only needs the record."""
    return lambda _services, record: fill(record.body)


TRAINING_JOB = Resource(Kind.TRAINING_JOB, "TrainingJob", "training job", describe_training_job)
TUNING_JOB = Resource(
    Kind.TUNING_JOB,
    "HyperParameterTuningJob",
    "hyperparameter tuning job",
    _filled(defaults.tuning_job),
)
TRANSFORM_JOB = Resource(
    Kind.TRANSFORM_JOB, "TransformJob", "transform job", _filled(defaults.transform_job)
)
MODEL = Resource(Kind.MODEL, "Model", "model", _filled(defaults.model))
ENDPOINT_CONFIG = Resource(
    Kind.ENDPOINT_CONFIG,
    "EndpointConfig",
    "endpoint configuration",
    _filled(defaults.endpoint_config),
)
ENDPOINT = Resource(Kind.ENDPOINT, "Endpoint", "endpoint", _filled(defaults.endpoint))

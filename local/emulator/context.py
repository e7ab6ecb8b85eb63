"""The context that all parts of the local SageMaker share."""

from dataclasses import dataclass

from local.emulator.credentials import ACCOUNT
from local.emulator.errors import ServiceError, invalid
from local.emulator.executors import Executor
from local.emulator.home import Home
from local.emulator.ports import Logs, Objects
from local.emulator.store import Kind, Missing, Record, Store

HOSTED = {
    Kind.MODEL: "model",
    Kind.ENDPOINT_CONFIG: "endpoint configuration",
    Kind.ENDPOINT: "endpoint",
}
"""Resources whose missing names are a ValidationException on AWS, with their names in it."""


@dataclass(frozen=True)
class Context:
    """A region's state, and the services that its jobs and endpoints use.

    Attributes:
        home: the folder of its files.
        region: its name, such as `us-east-1`.
        store: the resources and tags.
        objects: S3.
        logs: CloudWatch.
        executor: runs containers.
    """

    home: Home
    region: str
    store: Store
    objects: Objects
    logs: Logs
    executor: Executor

    def arn(self, kind: Kind, name: str) -> str:
        """The ARN of a resource."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind}/{name}"

    def hosted(self, kind: Kind, name: str) -> Record:
        """The current record of a model, endpoint configuration or endpoint.

        Raises:
            ServiceError: it does not exist.
        """
        try:
            return self.store.get(kind, name)
        except Missing:
            raise self.not_hosted(kind, name) from None

    def not_hosted(self, kind: Kind, name: str) -> ServiceError:
        """AWS's error for a model, endpoint configuration or endpoint that does not exist."""
        return invalid(f'Could not find {HOSTED[kind]} "{self.arn(kind, name)}".')

"""What every part of the local SageMaker shares."""

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
"""Resources whose errors AWS words alike, by their names in them: a ValidationException."""


@dataclass(frozen=True)
class Context:
    """One region: where it keeps its state, and what jobs and endpoints run with.

    Attributes:
        home: the folder of its files.
        region: its name, e.g. `us-east-1`.
        store: every resource and tag.
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
        """A model, endpoint configuration or endpoint, as of now.

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

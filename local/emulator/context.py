"""What every part of the local SageMaker shares."""

from dataclasses import dataclass

from local.emulator.credentials import ACCOUNT
from local.emulator.executors import Executor
from local.emulator.home import Home
from local.emulator.ports import Logs, Objects
from local.emulator.store import Kind, Store


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

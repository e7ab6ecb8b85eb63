"""A harness for training jobs that waits for their states."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local.emulator.context import Context
from local.emulator.executors import Executor
from local.emulator.home import Home
from local.emulator.services import Services
from local.emulator.store import Kind, Record, Store
from local.emulator.training.jobs import TrainingJobs
from local.emulator.training.run import TrainingTiming
from local.statuses import TERMINAL
from tests.unit.local.emulator.fakes import BUCKET, FakeLogs, FakeObjects

REGION = "us-east-1"


@dataclass
class TrainingHarness:
    """Training jobs and the services they use."""

    context: Context
    objects: FakeObjects
    logs: FakeLogs
    jobs: TrainingJobs

    def restart(self) -> "TrainingHarness":
        """Return another server on the same home."""
        again = build(self.context.home.path.parent, self.context.executor, self.objects, self.logs)
        again.jobs.recover()
        return again

    def services(self) -> Services:
        """Return the services that the API calls."""
        return replace(Services.build(self.context), training=self.jobs)

    def record(self, name: str = "job") -> Record:
        return self.context.store.get(Kind.TRAINING_JOB, name)

    def body(self, name: str = "job") -> dict[str, Any]:
        return self.record(name).body

    def wait(
        self, name: str = "job", *, until: Callable[[dict[str, Any]], bool] | None = None
    ) -> dict[str, Any]:
        """Return the body once `until` is true; by default once job and thread have ended."""
        store = self.context.store
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            body = self.body(name)
            if until is None:
                if body["TrainingJobStatus"] in TERMINAL and not self.jobs.running(name):
                    return body
            elif until(body):
                return body
            with store.changed:
                store.changed.wait(0.02)
        raise AssertionError(f"{name} did not get there: {self.body(name)}")

    def wait_for_metrics(self, count: int, name: str = "job") -> None:
        """Wait until this many metrics were found in the job's log."""
        self.wait(name, until=lambda _: len(self.jobs.metrics(name)) >= count)

    def statuses(self, name: str = "job") -> list[str]:
        return [visit["Status"] for visit in self.body(name)["SecondaryStatusTransitions"]]

    def run(self, **changes: Any) -> dict[str, Any]:
        self.jobs.create(request(**changes))
        return self.wait(changes.get("TrainingJobName", "job"))

    def close(self) -> None:
        self.jobs.shutdown()
        self.context.store.close()


def build(
    folder: Path,
    executor: Executor,
    objects: FakeObjects | None = None,
    logs: FakeLogs | None = None,
    **options: Any,
) -> TrainingHarness:
    """Return a harness whose home is `folder/home`."""
    home = Home.find(folder / "home")
    kept = objects or FakeObjects(folder / "s3")
    written = logs or FakeLogs()
    context = Context(home, REGION, Store(home.database), kept, written, executor)
    options.setdefault("timing", TrainingTiming(grace=2.0, retry_pause=0.01))
    jobs = TrainingJobs(context, **options)
    return TrainingHarness(context, kept, written, jobs)


def request(
    name: str = "job", hyperparameters: dict[str, str] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a CreateTrainingJob request for the toy, without members whose value is None."""
    whole: dict[str, Any] = {
        "TrainingJobName": name,
        "HyperParameters": {"epochs": "2", "seconds": "0.02", **(hyperparameters or {})},
        "AlgorithmSpecification": {
            "TrainingImage": "toy:latest",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "score", "Regex": "toy:score=([0-9.]+);"}],
        },
        "RoleArn": "arn:aws:iam::123456789012:role/berth",
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }
    return {field: value for field, value in whole.items() if value is not None}

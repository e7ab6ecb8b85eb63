"""A harness for tuning jobs: requests, and training jobs that run a script in milliseconds."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from local.emulator.context import Context
from local.emulator.errors import ServiceError, invalid
from local.emulator.home import Home
from local.emulator.store import Kind, Record, Store
from local.emulator.training.metrics import MetricPoint
from local.emulator.tuning.jobs import TuningJobs
from local.statuses import TERMINAL

METRIC = "toy:score"


@dataclass
class FakeRun:
    """The script of a training job: it emits these values, then ends with this status."""

    reports: list[float] = field(default_factory=list)
    status: str = "Completed"
    failure: str | None = None


class FakeTrainingJobs:
    """Replaces `TrainingJobs`, with the same calls and the same changes of records."""

    def __init__(self, context: Context, script: Callable[[dict[str, str]], FakeRun]) -> None:
        self.context, self.script = context, script
        self.pace = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[dict[str, Any]] = []
        self.cpus: list[int | None] = []
        self.stopped: list[str] = []
        self.refusal: ServiceError | None = None
        self.peak = 0
        self._points: dict[str, list[MetricPoint]] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def create(
        self,
        request: dict[str, Any],
        *,
        tuning_job_arn: str | None = None,
        cpus: int | None = None,
    ) -> Record:
        if self.refusal is not None:
            raise self.refusal
        name, now = request["TrainingJobName"], datetime.now(UTC)
        self.requests.append(request)
        self.cpus.append(cpus)
        body = {
            **request,
            "TuningJobArn": tuning_job_arn,
            "TrainingJobStatus": "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
            "TrainingStartTime": now,
        }
        arn = self.context.arn(Kind.TRAINING_JOB, name)
        record = self.context.store.add(Kind.TRAINING_JOB, name, arn, body)
        with self._lock:
            self._points[name] = []
            self.peak = max(self.peak, len(self.running()))
        self._begin(name, request["HyperParameters"])
        return record

    def recover(self) -> None:
        """Restart running jobs from their start, like the real service."""
        for name in self.running():
            self._points.setdefault(name, [])
            body = self.context.store.get(Kind.TRAINING_JOB, name).body
            self._begin(name, body["HyperParameters"])

    def running(self) -> list[str]:
        records = self.context.store.every(Kind.TRAINING_JOB)
        return [each.name for each in records if each.body["TrainingJobStatus"] not in TERMINAL]

    def stop(self, name: str) -> None:
        def change(record: Record) -> None:
            if record.body["TrainingJobStatus"] != "InProgress":
                raise invalid("it has ended")
            record.body["TrainingJobStatus"] = "Stopping"

        self.stopped.append(name)  # before the store notifies
        self.context.store.update(Kind.TRAINING_JOB, name, change)

    def metrics(self, name: str) -> list[MetricPoint]:
        return list(self._points.get(name, []))

    def last_lines(self, name: str, lines: int) -> list[str]:
        return [f"line {number} of {name}" for number in range(lines)]

    def close(self) -> None:
        self._closed.set()
        self.gate.set()
        for thread in self._threads:
            thread.join()

    def _begin(self, name: str, hyperparameters: dict[str, str]) -> None:
        act = self.script(hyperparameters)
        thread = threading.Thread(target=self._play, args=(name, act), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _play(self, name: str, act: FakeRun) -> None:
        for value in act.reports:
            self.gate.wait()
            time.sleep(self.pace)
            if self._closed.is_set():
                return
            if self._status(name) == "Stopping":
                break
            self._points[name].append(MetricPoint(METRIC, value, time.time()))
            with self.context.store.changed:
                self.context.store.changed.notify_all()
        while not self.gate.is_set() and self._status(name) != "Stopping":
            self.gate.wait(0.02)
        if self._closed.is_set():
            return
        self.context.store.update(Kind.TRAINING_JOB, name, lambda record: self._end(record, act))

    def _status(self, name: str) -> str:
        return str(self.context.store.get(Kind.TRAINING_JOB, name).body["TrainingJobStatus"])

    def _end(self, record: Record, act: FakeRun) -> None:
        stopping = record.body["TrainingJobStatus"] == "Stopping"
        record.body["TrainingJobStatus"] = "Stopped" if stopping else act.status
        record.body["TrainingEndTime"] = datetime.now(UTC)
        if act.failure and not stopping:
            record.body["FailureReason"] = act.failure


@dataclass
class TuningHarness:
    """Scripted training jobs and the tuning jobs under test."""

    context: Context
    training: FakeTrainingJobs
    tuning: TuningJobs

    @classmethod
    def build(cls, path: Path, script: Callable[[dict[str, str]], FakeRun]) -> "TuningHarness":
        home = Home(path)
        context = Context(
            home=home,
            region="us-east-1",
            store=Store(home.database),
            objects=Mock(),
            logs=Mock(),
            executor=Mock(max_hosts=1),
        )
        training = FakeTrainingJobs(context, script)
        return cls(context, training, TuningJobs(context, training, poll=0.02))

    def close(self) -> None:
        """Close like a server that dies: no job is ended and no record is changed."""
        self.tuning.shutdown()
        self.training.close()
        self.context.store.close()

    def job(self, name: str = "job") -> dict[str, Any]:
        return self.context.store.get(Kind.TUNING_JOB, name).body

    def wait(self, until: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until `until` is true; it is called after every change."""
        changed = self.context.store.changed
        with changed:
            assert changed.wait_for(until, seconds), "timed out"

    def ended(self, name: str = "job") -> dict[str, Any]:
        """Wait for the end of the job and return Describe's response."""
        self.wait(lambda: self.job(name)["HyperParameterTuningJobStatus"] in TERMINAL)
        return self.job(name)

    def trials(self, name: str = "job") -> list[Record]:
        """Return the training jobs of a tuning job by number."""
        records = self.context.store.every(Kind.TRAINING_JOB)
        return sorted(
            (each for each in records if each.name.startswith(f"{name}-")),
            key=lambda each: each.name,
        )

    def tuned(self, name: str = "job") -> list[dict[str, str]]:
        """Return the hyperparameters of its trials by number."""
        return [each.private["tuning"]["TunedHyperParameters"] for each in self.trials(name)]


RATE = {
    "Name": "rate",
    "MinValue": "0.0001",
    "MaxValue": "1",
    "ScalingType": "Logarithmic",
}


def tuning_request(
    name: str = "job",
    *,
    strategy: str = "Random",
    jobs: int | None = 4,
    parallel: int = 1,
    direction: str = "Maximize",
    seed: int | None = 7,
    ranges: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    definition: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a CreateHyperParameterTuningJob request."""
    resource = {"MaxParallelTrainingJobs": parallel, **(limits or {})}
    if jobs is not None:
        resource["MaxNumberOfTrainingJobs"] = jobs
    settings = {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": {"Type": direction, "MetricName": METRIC},
        "ResourceLimits": resource,
        "ParameterRanges": ranges or {"ContinuousParameterRanges": [RATE]},
        **(config or {}),
    }
    if seed is not None:
        settings["RandomSeed"] = seed
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": settings,
        "TrainingJobDefinition": {
            "StaticHyperParameters": {"epochs": "3"},
            "AlgorithmSpecification": {
                "TrainingImage": "toy:latest",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": METRIC, "Regex": "toy:score=([0-9.]+);"}],
            },
            "RoleArn": "arn:aws:iam::123456789012:role/berth",
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **(definition or {}),
        },
        **more,
    }

"""What training's tests share: an S3 of files, logs in memory, an executor that runs functions."""

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local.emulator import copies
from local.emulator.context import Context
from local.emulator.executors import ContainerSpec, Executor, ExecutorError, ImageMissing
from local.emulator.home import Home
from local.emulator.ports import Statistics, StoredObject
from local.emulator.services import Services
from local.emulator.store import Kind, Record, Store
from local.emulator.training.body import ENDED
from local.emulator.training.jobs import TrainingJobs
from local.emulator.training.run import Timing

BUCKET = "bucket"
REGION = "us-east-1"


class FileObjects:
    """The local S3 as plain files below a folder, a bucket each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full = False
        (folder / BUCKET).mkdir(parents=True)

    def bucket_exists(self, bucket: str) -> bool:
        return (self.folder / bucket).is_dir()

    def keys(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        if not self.bucket_exists(bucket):
            return []
        keys = sorted(path.name.replace("|", "/") for path in (self.folder / bucket).iterdir())
        return [StoredObject(key, 0, "") for key in keys if key.startswith(prefix)]

    def link(self, bucket: str, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = self._file(bucket, key)
        if not source.exists():
            raise KeyError(key)
        path.hardlink_to(source)

    def copy(self, bucket: str, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = self._file(bucket, key)
        if not source.exists():
            raise KeyError(key)
        copies.copy(source, path)

    def put(self, bucket: str, key: str, path: Path) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        if not self.bucket_exists(bucket):
            raise OSError(f"s3://{bucket}: no such bucket")
        target = self._file(bucket, key)
        target.unlink(missing_ok=True)
        shutil.copyfile(path, target)

    def read(self, bucket: str, key: str) -> bytes:
        try:
            return self._file(bucket, key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def delete(self, bucket: str, key: str) -> None:
        self._file(bucket, key).unlink(missing_ok=True)

    def add(self, key: str, content: bytes | str = b"x") -> None:
        data = content.encode() if isinstance(content, str) else content
        self._file(BUCKET, key).write_bytes(data)

    def names(self, prefix: str = "") -> list[str]:
        return [stored.key for stored in self.keys(BUCKET, prefix)]

    def _file(self, bucket: str, key: str) -> Path:
        return self.folder / bucket / key.replace("/", "|")


class MemoryStream:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, line: str) -> None:
        self._lines.append(line)

    def close(self) -> None:
        pass


@dataclass
class MemoryLogs:
    """The local CloudWatch in memory."""

    streams: dict[str, list[str]] = field(default_factory=dict)
    points: list[tuple[str, float]] = field(default_factory=list)
    statistics: list[tuple[dict[str, str], Statistics]] = field(default_factory=list)

    def open(self, group: str, stream: str) -> MemoryStream:
        return MemoryStream(self.streams.setdefault(f"{group} {stream}", []))

    def tail(self, group: str, stream_prefix: str, lines: int) -> list[str]:
        start = f"{group} {stream_prefix}"
        every = [
            line for name in self.streams if name.startswith(start) for line in self.streams[name]
        ]
        return every[-lines:]

    def put_metrics(
        self,
        namespace: str,
        dimensions: dict[str, str],
        metrics: Iterable[tuple[str, float, float]],
    ) -> None:
        assert namespace == "/aws/sagemaker/TrainingJobs"
        assert list(dimensions) == ["TrainingJobName"]
        self.points += [(name, value) for name, value, _ in metrics]

    def put_statistics(
        self, namespace: str, dimensions: dict[str, str], found: Iterable[Statistics]
    ) -> None:
        assert namespace == "AWS/SageMaker"
        self.statistics += [(dimensions, each) for each in found]

    def lines(self) -> list[str]:
        return [line for lines in self.streams.values() for line in lines]


class Pretended:
    """A container that is a function: it gets its spec, a `say`, and an event set by SIGTERM."""

    def __init__(
        self, spec: ContainerSpec, work: "Work", on_line: Callable[[str], None], owner: "Pretender"
    ) -> None:
        self.name = spec.name
        self.address = ("127.0.0.1", 1)
        self._owner = owner
        self._told = threading.Event()
        self._ended = threading.Event()
        self._status = 137

        def run() -> None:
            status = work(spec, on_line, self._told)
            if not self._ended.is_set():
                self._status = status
            self._ended.set()

        threading.Thread(target=run, daemon=True).start()

    def wait(self, timeout: float | None = None) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(0.01):
            if self._owner.gone:
                raise ExecutorError("the engine does not answer")
            if deadline is not None and time.monotonic() > deadline:
                return None
        return self._status

    def stop(self, grace: float) -> int:
        if self._owner.gone:
            raise ExecutorError("the engine does not answer")
        self._told.set()
        if not self._ended.wait(grace):
            self._ended.set()
        return self._status

    def remove(self) -> None:
        self._told.set()
        self._ended.set()
        self._owner.running.pop(self.name, None)


Work = Callable[[ContainerSpec, Callable[[str], None], threading.Event], int]


class Pretender:
    """An executor of many hosts whose containers are functions; `gone` pulls its plug."""

    name = "docker"
    max_hosts = 4

    def __init__(self, work: Work) -> None:
        self.work = work
        self.gone = False
        self.running: dict[str, Pretended] = {}
        self.networks: dict[str, bool] = {}
        self.specs: list[ContainerSpec] = []

    def check_image(self, image: str) -> None:
        if self.gone:
            raise ExecutorError("the engine does not answer")
        if image != "toy:latest":
            raise ImageMissing(f"there is no image {image}")

    def create_network(self, name: str, *, isolated: bool) -> None:
        self.networks[name] = isolated

    def remove_network(self, name: str) -> None:
        self.networks.pop(name, None)

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Pretended:
        self.check_image(spec.image)
        self.specs.append(spec)
        container = self.running[spec.name] = Pretended(spec, self.work, on_line, self)
        return container

    def reap(self) -> list[str]:
        return []


@dataclass
class Workshop:
    """Training jobs with all they need, and a way to wait for them."""

    context: Context
    objects: FileObjects
    logs: MemoryLogs
    jobs: TrainingJobs

    def restart(self) -> "Workshop":
        """Another server on the same home."""
        again = build(self.context.home.path.parent, self.context.executor, self.objects, self.logs)
        again.jobs.recover()
        return again

    def services(self) -> Services:
        """What the API calls."""
        return replace(Services.build(self.context), training=self.jobs)

    def record(self, name: str = "job") -> Record:
        return self.context.store.get(Kind.TRAINING_JOB, name)

    def body(self, name: str = "job") -> dict[str, Any]:
        return self.record(name).body

    def wait(
        self, name: str = "job", *, until: Callable[[dict[str, Any]], bool] | None = None
    ) -> dict[str, Any]:
        """The body once `until` holds; by default once the job has ended and its thread too."""
        store = self.context.store
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            body = self.body(name)
            if until is None:
                if body["TrainingJobStatus"] in ENDED and not self.jobs.running(name):
                    return body
            elif until(body):
                return body
            with store.changed:
                store.changed.wait(0.02)
        raise AssertionError(f"{name} did not get there: {self.body(name)}")

    def statuses(self, name: str = "job") -> list[str]:
        return [visit["Status"] for visit in self.body(name)["SecondaryStatusTransitions"]]

    def run(self, **changes: Any) -> dict[str, Any]:
        self.jobs.create(request(**changes))
        return self.wait(changes.get("TrainingJobName", "job"))


def build(
    folder: Path,
    executor: Executor,
    objects: FileObjects | None = None,
    logs: MemoryLogs | None = None,
    **options: Any,
) -> Workshop:
    """A workshop whose home is `folder/home`."""
    home = Home.find(folder / "home")
    kept = objects or FileObjects(folder / "s3")
    written = logs or MemoryLogs()
    context = Context(home, REGION, Store(home.database), kept, written, executor)
    options.setdefault("timing", Timing(grace=2.0, retry_pause=0.01))
    jobs = TrainingJobs(context, **options)
    return Workshop(context, kept, written, jobs)


def request(
    name: str = "job", hyperparameters: dict[str, str] | None = None, **changes: Any
) -> dict[str, Any]:
    """A CreateTrainingJob request for the toy; members of value None are left out."""
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

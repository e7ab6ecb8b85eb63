"""Fakes of the services that jobs use: S3 in a folder, logs in memory, functions as containers."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local.emulator import copies
from local.emulator.executors import Container, ContainerSpec, Executor, ExecutorError, ImageMissing
from local.emulator.ports import Statistics, StoredObject

BUCKET = "bucket"


class FakeObjects:
    """The local S3 as plain files below one folder per bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full = False
        self.changed = threading.Condition()
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
        with self._whole(bucket, key) as aside:
            shutil.copyfile(path, aside)
        with self.changed:
            self.changed.notify_all()

    def read(self, bucket: str, key: str) -> bytes:
        try:
            return self._file(bucket, key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def delete(self, bucket: str, key: str) -> None:
        self._file(bucket, key).unlink(missing_ok=True)

    def add(self, key: str, content: bytes | str = b"x") -> None:
        data = content.encode() if isinstance(content, str) else content
        with self._whole(BUCKET, key) as aside:
            aside.write_bytes(data)

    def names(self, prefix: str = "") -> list[str]:
        return [stored.key for stored in self.keys(BUCKET, prefix)]

    def wait_for(self, prefix: str) -> list[str]:
        """Wait for keys with a prefix and return them."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.names(prefix), 20), prefix
            return self.names(prefix)

    @contextmanager
    def _whole(self, bucket: str, key: str) -> Iterator[Path]:
        """A file that replaces the object once written, so that no partial object is read."""
        descriptor, name = tempfile.mkstemp(dir=self.folder)
        os.close(descriptor)
        yield Path(name)
        Path(name).replace(self._file(bucket, key))

    def _file(self, bucket: str, key: str) -> Path:
        return self.folder / bucket / key.replace("/", "|")


class FakeLogStream:
    def __init__(self, lines: list[str], changed: threading.Condition) -> None:
        self._lines, self._changed = lines, changed

    def write(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def close(self) -> None:
        pass


@dataclass
class FakeLogs:
    """The local CloudWatch, in memory."""

    streams: dict[str, list[str]] = field(default_factory=dict)
    points: list[tuple[str, float]] = field(default_factory=list)
    statistics: list[tuple[dict[str, str], Statistics]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def open(self, group: str, stream: str) -> FakeLogStream:
        return FakeLogStream(self.streams.setdefault(f"{group} {stream}", []), self.changed)

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

    def wait_for(self, text: str) -> None:
        """Return when a line contains the text."""
        with self.changed:
            found = self.changed.wait_for(lambda: any(text in line for line in self.lines()), 30)
            assert found, (text, self.lines())


Work = Callable[[ContainerSpec, Callable[[str], None], threading.Event], int]
"""What a fake container runs: its spec, a function that prints a line, and an event that SIGTERM
sets; returns the exit status."""


class FakeContainer:
    """A container that runs a function in a thread."""

    def __init__(
        self, spec: ContainerSpec, work: Work, on_line: Callable[[str], None], owner: "FakeExecutor"
    ) -> None:
        self.name = spec.name
        self.address = ("127.0.0.1", 1)
        self.base = str(spec.base)
        self._owner = owner
        self._sigterm = threading.Event()
        self._status: int | None = None

        def run() -> None:
            self._end(work(spec, on_line, self._sigterm))

        threading.Thread(target=run, daemon=True).start()

    def wait(self, timeout: float | None = None) -> int | None:
        with self._owner.changed:
            self._owner.changed.wait_for(
                lambda: self._status is not None or self._owner.gone, timeout
            )
            if self._status is None and self._owner.gone:
                raise ExecutorError("the engine does not answer")
            return self._status

    def stop(self, grace: float) -> int:
        if self._owner.gone:
            raise ExecutorError("the engine does not answer")
        self._sigterm.set()
        with self._owner.changed:
            self._owner.changed.wait_for(lambda: self._status is not None, grace)
            self._end(137)
            assert self._status is not None
            return self._status

    def remove(self) -> None:
        self._sigterm.set()
        self._end(137)
        self._owner.running.pop(self.name, None)

    def _end(self, status: int) -> None:
        with self._owner.changed:
            if self._status is None:
                self._status = status
                self._owner.changed.notify_all()


class FakeExecutor:
    """An executor of many hosts whose containers are functions; `gone` simulates a dead engine."""

    name = "docker"
    max_hosts = 4

    def __init__(self, work: Work) -> None:
        self.work = work
        self.changed = threading.Condition()
        self.running: dict[str, FakeContainer] = {}
        self.networks: dict[str, bool] = {}
        self.specs: list[ContainerSpec] = []
        self._gone = False

    @property
    def gone(self) -> bool:
        return self._gone

    @gone.setter
    def gone(self, gone: bool) -> None:
        with self.changed:
            self._gone = gone
            self.changed.notify_all()

    def wait_for_containers(self, count: int) -> None:
        """Wait until this many containers run."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.running) >= count, 10)

    def check_image(self, image: str) -> None:
        if self.gone:
            raise ExecutorError("the engine does not answer")
        if image != "toy:latest":
            raise ImageMissing(f"there is no image {image}")

    def create_network(self, name: str, *, isolated: bool) -> None:
        self.networks[name] = isolated

    def remove_network(self, name: str) -> None:
        self.networks.pop(name, None)

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> FakeContainer:
        self.check_image(spec.image)
        self.specs.append(spec)
        container = FakeContainer(spec, self.work, on_line, self)
        with self.changed:
            self.running[spec.name] = container
            self.changed.notify_all()
        return container

    def reap(self) -> list[str]:
        return []


class RecordingExecutor:
    """A real executor whose containers a test can access."""

    def __init__(self, real: Executor) -> None:
        self._real = real
        self.name, self.max_hosts = real.name, real.max_hosts
        self.check_image, self.reap = real.check_image, real.reap
        self.create_network, self.remove_network = real.create_network, real.remove_network
        self.started: dict[str, Container] = {}

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        container = self.started[spec.name] = self._real.start(spec, on_line)
        return container

    def running(self, prefix: str) -> list[Container]:
        """Return the running containers whose names have this prefix."""
        found = [one for name, one in self.started.items() if name.startswith(prefix)]
        return [container for container in found if container.wait(0) is None]

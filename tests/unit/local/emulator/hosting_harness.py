"""The harness of hosting's tests: models in a fake S3, endpoints, and boto3 with the runtime."""

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.config
from werkzeug.serving import make_server

from local.emulator.context import Context
from local.emulator.executors import Executor
from local.emulator.home import Home
from local.emulator.hosting.endpoints import Endpoints
from local.emulator.hosting.instances import HostingTiming
from local.emulator.hosting.invocations import InvocationLimits
from local.emulator.hosting.runtime import RuntimeApp
from local.emulator.store import Kind, Store
from tests.unit.local.emulator.fakes import BUCKET, FakeLogs, FakeObjects, RecordingExecutor
from tests.unit.local.emulator.training_harness import REGION

T = TypeVar("T")
QUICK = HostingTiming(watch=0.1, backoff=0.05, max_backoff=0.2, grace=5, drain=10)
IMAGE = "toy:latest"


def archive(files: dict[str, bytes]) -> bytes:
    """Return a model.tar.gz of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            bundle.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class HostingHarness:
    """Endpoints with the services they need."""

    context: Context
    objects: FakeObjects
    logs: FakeLogs
    executor: RecordingExecutor
    endpoints: Endpoints
    limits: InvocationLimits

    def model(
        self, name: str, files: dict[str, bytes] | None = None, **container: Any
    ) -> dict[str, Any]:
        """Store a model with an archive of `files` at `models/<name>.tar.gz`."""
        key = f"models/{name}.tar.gz"
        content = {"model.json": json.dumps({"name": name}).encode(), **(files or {})}
        self.objects.add(key, archive(content))
        definition = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{key}", **container}
        body = {
            "ModelName": name,
            "PrimaryContainer": {k: v for k, v in definition.items() if v is not None},
        }
        self.context.store.add(Kind.MODEL, name, self.context.arn(Kind.MODEL, name), body)
        return body

    def config(self, name: str, *variants: dict[str, Any], **rest: Any) -> None:
        """Store an endpoint configuration with the given variants."""
        body = {
            "EndpointConfigName": name,
            "ProductionVariants": [
                {
                    "VariantName": "AllTraffic",
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                    **variant,
                }
                for variant in variants
            ],
            "CreationTime": datetime.now(UTC),
            **rest,
        }
        arn = self.context.arn(Kind.ENDPOINT_CONFIG, name)
        self.context.store.add(Kind.ENDPOINT_CONFIG, name, arn, body)

    def serve(self, name: str = "one", files: dict[str, bytes] | None = None, **rest: Any) -> None:
        """Create a model, a configuration and an endpoint with the same name, in service."""
        self.model(name, files)
        self.config(name, {"ModelName": name}, **rest)
        self.create(name)
        self.wait(name, "InService")

    def create(self, name: str, config: str | None = None, **rest: Any) -> None:
        self.endpoints.create({"EndpointName": name, "EndpointConfigName": config or name, **rest})

    def body(self, name: str = "one") -> dict[str, Any]:
        return self.context.store.get(Kind.ENDPOINT, name).body

    def wait(self, name: str, *statuses: str) -> dict[str, Any]:
        """Wait until its status is one of these and return its body."""
        return self.until(lambda: self.body(name), lambda b: b["EndpointStatus"] in statuses)

    def until(self, read: Callable[[], T], good: Callable[[T], bool]) -> T:
        """Read the value after every change in the store until it is good, and return it."""
        deadline = time.monotonic() + 60
        while not good(value := read()):
            assert time.monotonic() < deadline, value
            with self.context.store.changed:
                self.context.store.changed.wait(0.01)  # S3 and logs send no notifications
        return value

    def gone(self, name: str) -> None:
        self.until(
            lambda: [one.name for one in self.context.store.every(Kind.ENDPOINT)],
            lambda names: name not in names,
        )

    def object_at(self, location: str) -> bytes:
        """Wait for the object at an s3:// location and return it."""
        key = location.removeprefix(f"s3://{BUCKET}/")
        self.until(lambda: self.objects.names(key), bool)
        return self.objects.read(BUCKET, key)

    def kill(self, name: str) -> None:
        """Kill a container as in a crash."""
        container, *_ = self.executor.running(f"endpoint-{name}-")
        container.stop(0)

    @contextmanager
    def runtime(self) -> Iterator[Any]:
        """Yield a boto3 client of the runtime, on a separate server."""
        with serving(RuntimeApp(self.context, self.endpoints, self.limits)) as url:
            client = boto3.client(
                "sagemaker-runtime",
                endpoint_url=url,
                region_name=REGION,
                aws_access_key_id="x",
                aws_secret_access_key="x",
                config=botocore.config.Config(
                    retries={"total_max_attempts": 1}, max_pool_connections=32
                ),
            )
            try:
                yield client
            finally:
                client.close()

    def restart(self) -> "HostingHarness":
        """Return another server on the same home, after this one ended."""
        again = build(
            self.context.home.path.parent,
            self.executor,
            self.objects,
            self.logs,
            limits=self.limits,
        )
        again.endpoints.recover()
        return again

    def close(self) -> None:
        self.endpoints.shutdown()
        self.context.store.close()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve a WSGI app in a thread and yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def build(
    folder: Path,
    executor: Executor,
    objects: FakeObjects | None = None,
    logs: FakeLogs | None = None,
    *,
    timing: HostingTiming = QUICK,
    limits: InvocationLimits | None = None,
    seed: int | None = 0,
) -> HostingHarness:
    """Return a harness whose home is `folder/home`."""
    home = Home.find(folder / "home")
    kept = objects or FakeObjects(folder / "s3")
    written = logs or FakeLogs()
    recorded = executor if isinstance(executor, RecordingExecutor) else RecordingExecutor(executor)
    context = Context(home, REGION, Store(home.database), kept, written, recorded)
    allowed = limits or replace(InvocationLimits(), timeout=30)
    endpoints = Endpoints(context, timing=timing, limits=allowed, seed=seed)
    return HostingHarness(context, kept, written, recorded, endpoints, allowed)

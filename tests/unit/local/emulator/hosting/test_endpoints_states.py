"""Every status of an endpoint, and the effect of each operation in it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from local.emulator.api.operations import OPERATIONS
from local.emulator.errors import ServiceError
from local.emulator.executors import ContainerSpec
from local.emulator.hosting.runtime import RuntimeApp
from local.emulator.services import Services
from local.emulator.store import Kind, Record
from tests.unit.local.emulator.fakes import BUCKET, FakeContainer, FakeExecutor
from tests.unit.local.emulator.hosting_harness import HostingHarness, build


class _Model(BaseHTTPRequestHandler):
    """A container that answers every request."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


class _Serving(FakeExecutor):
    """An executor whose containers are all one HTTP server in this process."""

    def __init__(self, port: int) -> None:
        super().__init__(_until_told)
        self._port = port

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> FakeContainer:
        container = super().start(spec, on_line)
        container.address = ("127.0.0.1", self._port)
        return container


def _until_told(_: ContainerSpec, __: Callable[[str], None], told: threading.Event) -> int:
    told.wait()
    return 0


@contextmanager
def staged(folder: Path, *, running: bool | None = None) -> Iterator[HostingHarness]:
    """Yield a harness with an endpoint `one`, unless `running` is None, with containers or not."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    harness = build(folder, _Serving(server.server_port))
    if running is not None:
        harness.model("one")
        harness.config("one", {"ModelName": "one"})
        if running:
            harness.create("one")
            harness.wait("one", "InService")
        else:
            _add_without_containers(harness)
        settled()
    try:
        yield harness
    finally:
        harness.close()
        server.shutdown()
        server.server_close()


def _add_without_containers(harness: HostingHarness) -> None:
    arn = harness.context.arn(Kind.ENDPOINT, "one")
    body = {"EndpointName": "one", "EndpointArn": arn, "EndpointConfigName": "one"}
    private = {"deployment": None, "pending": None, "generation": 0, "expires": None}
    harness.context.store.add(Kind.ENDPOINT, "one", arn, body, private)


def set_status(harness: HostingHarness, status: str) -> None:
    def change(record: Record) -> None:
        record.body["EndpointStatus"] = status

    harness.context.store.update(Kind.ENDPOINT, "one", change)


def settled() -> None:
    """Wait until no operation on the endpoint is in progress."""
    deadline = time.monotonic() + 60
    while any(thread.name == "endpoint one" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def update(harness: HostingHarness, name: str, config: str) -> None:
    harness.endpoints.update({"EndpointName": name, "EndpointConfigName": config})


def _ask(harness: HostingHarness, operation: str) -> str:
    """Return the error code of an operation on the endpoint `one`; empty if it is accepted."""
    weights = [{"VariantName": "AllTraffic", "DesiredWeight": 2.0, "DesiredInstanceCount": 1}]
    services = replace(Services.build(harness.context), endpoints=harness.endpoints)
    name = {"EndpointName": "one"}
    try:
        match operation:
            case "Describe":
                OPERATIONS["DescribeEndpoint"](services, name)
            case "Update":
                OPERATIONS["UpdateEndpoint"](services, name | {"EndpointConfigName": "other"})
            case "UpdateWeights":
                desired = {"DesiredWeightsAndCapacities": weights}
                OPERATIONS["UpdateEndpointWeightsAndCapacities"](services, name | desired)
            case "Delete":
                OPERATIONS["DeleteEndpoint"](services, name)
            case "Invoke":
                runtime = Client(RuntimeApp(harness.context, harness.endpoints, harness.limits))
                answer = runtime.post("/endpoints/one/invocations", data=b"who")
                return answer.headers.get("x-amzn-ErrorType", "")
    except ServiceError as error:
        return error.code
    return ""


NEVER = "ValidationException"
REFUSED = {"Update": NEVER, "UpdateWeights": NEVER, "Delete": NEVER, "Describe": ""}
NOT_SERVING = {"Invoke": "ValidationError"}
DONE = dict.fromkeys(("Describe", "Update", "UpdateWeights", "Delete"), "")


class TestEveryStateAndOperation:
    """Checks the documentation of `EndpointStatus` in DescribeEndpoint."""

    @pytest.mark.parametrize(
        ("status", "running", "expected"),
        [
            ("Creating", False, REFUSED | NOT_SERVING),
            ("Deleting", False, REFUSED | NOT_SERVING),
            ("Updating", True, REFUSED | {"Invoke": ""}),
            ("SystemUpdating", False, REFUSED | NOT_SERVING),
            ("RollingBack", True, REFUSED | {"Invoke": ""}),
            ("InService", True, DONE | {"Invoke": ""}),
            ("OutOfService", True, DONE | {"Invoke": ""}),
            ("UpdateRollbackFailed", True, DONE | {"Invoke": ""}),
            ("Failed", False, REFUSED | {"Delete": ""} | NOT_SERVING),
        ],
    )
    def test_every_operation_is_accepted_or_refused_as_documented(
        self, tmp_path: Path, status: str, running: bool, expected: dict[str, str]
    ) -> None:
        with staged(tmp_path, running=running) as harness:
            harness.model("other")
            harness.config("other", {"ModelName": "other"})
            found = {}
            for operation in ("Describe", "Invoke", "UpdateWeights", "Update", "Delete"):
                set_status(harness, status)
                found[operation] = _ask(harness, operation)
                settled()
            assert found == expected

    @pytest.mark.parametrize("gone", ["config", "model", "model data"])
    def test_operations_work_after_its_resources_were_deleted(
        self, tmp_path: Path, gone: str
    ) -> None:
        with staged(tmp_path, running=True) as harness:
            harness.model("other")
            harness.config("other", {"ModelName": "other"})
            match gone:
                case "config":
                    harness.context.store.delete(Kind.ENDPOINT_CONFIG, "one")
                case "model":
                    harness.context.store.delete(Kind.MODEL, "one")
                case _:
                    harness.objects.delete(BUCKET, "models/one.tar.gz")
            for operation in ("Describe", "Invoke", "UpdateWeights", "Update", "Delete"):
                assert _ask(harness, operation) == "", operation
                settled()
            harness.gone("one")

    def test_a_failed_endpoint_stays_deletable_after_every_refusal(self, tmp_path: Path) -> None:
        with staged(tmp_path) as harness:
            harness.model("one")
            harness.objects.delete(BUCKET, "models/one.tar.gz")
            harness.config("one", {"ModelName": "one"})
            harness.model("other")
            harness.config("other", {"ModelName": "other"})
            harness.create("one")
            reason = harness.wait("one", "Failed")["FailureReason"]
            for operation in ("UpdateWeights", "Update"):
                assert _ask(harness, operation) == NEVER
                assert harness.body()["EndpointStatus"] == "Failed"
                assert harness.body()["FailureReason"] == reason
            assert _ask(harness, "Delete") == ""
            harness.gone("one")
            harness.create("one", "other")  # its name can be used again
            harness.wait("one", "InService")

    def test_an_unexpected_error_in_an_update_keeps_the_running_containers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with staged(tmp_path, running=True) as harness:
            harness.model("other")
            harness.config("other", {"ModelName": "other"})

            def broken(*_: Any, **__: Any) -> None:
                raise MemoryError("no more")

            monkeypatch.setattr("local.emulator.hosting.fleet.fetch", broken)
            update(harness, "one", "other")
            body = harness.wait("one", "InService", "Failed")
            assert body["EndpointStatus"] == "InService"
            assert "no more" in body["FailureReason"]
            assert _ask(harness, "Invoke") == ""
            assert _ask(harness, "Delete") == ""
            harness.gone("one")

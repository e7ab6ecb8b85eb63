import errno
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.embedded_metrics import LINE_BYTES, MINUTE, EmbeddedMetrics
from serve.records import InvocationRecord
from serve.settings import ServerSettingsError, Settings
from tests.embedded_documents import documents, read_document, total
from tests.unit.serve.artifacts import picture, write_artifact
from tests.unit.serve.server import serving

START = 1_790_000_040.0
"""The first second of a minute."""


class Log:
    """Captures what is written; its clock stands still until the test sets it."""

    def __init__(self) -> None:
        self.text = ""
        self.now = START
        self.written = threading.Event()

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        assert len(line) <= LINE_BYTES
        self.text += line.decode()
        self.written.set()

    def metrics(self, namespace: str = "Flowers", **dimensions: str) -> EmbeddedMetrics:
        return EmbeddedMetrics(namespace, dimensions, write=self.write, clock=lambda: self.now)


def record(images: int = 1) -> InvocationRecord:
    made = InvocationRecord(received=1000, images=images, decode=0.003, compute=0.04)
    made.waited_for_engine(0.2)
    return made


def test_a_document_follows_the_specification() -> None:
    log = Log()
    metrics = log.metrics(EndpointName="flowers", VariantName="AllTraffic")
    metrics.observe(record(images=3), 200, 0.3)
    metrics.observe(record(images=2), 200, 0.25)
    metrics.observe(InvocationRecord(images=9), 415, 0.0012)
    metrics.observe(InvocationRecord(), 503, 10)
    metrics.stop()
    (line,) = log.text.splitlines()
    found = read_document(line)
    assert found.timestamp == START * 1000
    assert found.namespace == "Flowers"
    assert found.dimensions == {"EndpointName": "flowers", "VariantName": "AllTraffic"}
    assert found.values == {
        "Invocations": [4],
        "Invocation4XXErrors": [1],
        "Invocation5XXErrors": [1],
        "Images": [5],
        "Latency": [300.0, 250.0, 1.2, 10_000.0],
        "DecodeTime": [3.0, 3.0],
        "QueueTime": [200.0, 200.0],
        "ComputeTime": [40.0, 40.0],
    }
    units = json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    assert {each["Name"]: each["Unit"] for each in units} == {
        name: "Milliseconds" if name.endswith(("Time", "Latency")) else "Count"
        for name in found.values
    }


def test_metrics_without_a_value_are_not_declared() -> None:
    log = Log()
    metrics = log.metrics()
    metrics.observe(InvocationRecord(), 400, 0.001)
    metrics.stop()
    (found,) = documents(log.text)
    assert "ComputeTime" not in found.values
    assert found.values["Invocation4XXErrors"] == [1]


def test_nothing_is_written_without_invocations() -> None:
    log = Log()
    log.metrics().stop()
    assert log.text == ""


def test_a_finished_minute_is_written_without_another_invocation() -> None:
    log = Log()
    metrics = log.metrics()
    metrics.observe(record(), 200, 0.3)
    log.now += MINUTE
    assert log.written.wait(60)
    metrics.observe(record(), 200, 0.3)
    metrics.stop()
    first, second = documents(log.text)
    assert second.timestamp - first.timestamp == MINUTE * 1000


def test_a_value_counts_in_the_minute_in_which_it_was_measured() -> None:
    log = Log()
    metrics = log.metrics()
    for second in (0, 59, 60, 61, 130):
        log.now = START + second
        metrics.observe(record(), 200, 0.3)
    metrics.stop()
    found = documents(log.text)
    minutes = [each.timestamp // (MINUTE * 1000) for each in found]
    assert [minute - minutes[0] for minute in minutes] == [0, 1, 2]
    assert [each.values["Invocations"] for each in found] == [[2], [2], [1]]


@pytest.mark.parametrize("length", [1, 1000])
def test_many_invocations_are_split_into_documents_written_atomically(length: int) -> None:
    log = Log()
    metrics = log.metrics("n" * 255, Name="x" * length)
    for number in range(1001):
        metrics.observe(record(), 200, 54.9999 + number / 1e5)
    metrics.stop()
    found = documents(log.text)
    assert len(found) >= 11
    assert total(found, "Invocations") == 1001
    assert sum(len(each.values["Latency"]) for each in found) == 1001
    assert all(len(each.values["Latency"]) <= 100 for each in found)


def test_concurrent_invocations_are_all_counted() -> None:
    log = Log()
    metrics = log.metrics()

    def invoke() -> None:
        for _ in range(500):
            metrics.observe(record(), 200, 0.3)

    threads = [threading.Thread(target=invoke) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.stop()
    assert total(documents(log.text), "Images") == 4000


def test_a_closed_log_does_not_stop_the_server() -> None:
    def closed(_line: bytes) -> None:
        raise BrokenPipeError(errno.EPIPE, "closed")

    now = [START]
    metrics = EmbeddedMetrics("Flowers", {}, write=closed, clock=lambda: now[0])
    metrics.observe(record(), 200, 0.3)
    now[0] += MINUTE
    metrics.observe(record(), 200, 0.3)
    metrics.stop()


def one_model(tmp_path: Path) -> tuple[Path, dict[str, str], str]:
    write_artifact(tmp_path / "model")
    return tmp_path, {}, "/invocations"


def two_models(tmp_path: Path) -> tuple[Path, dict[str, str], str]:
    write_artifact(tmp_path / "models" / "a" / "model")
    return tmp_path, {"SAGEMAKER_MULTI_MODEL": "true"}, "/models/a/invoke"


@pytest.mark.parametrize("kind", [one_model, two_models])
def test_a_server_writes_pending_metrics_at_shutdown(
    kind: Callable[[Path], tuple[Path, dict[str, str], str]], tmp_path: Path
) -> None:
    base, environ, path = kind(tmp_path)
    asked = {
        "BERTH_CLOUDWATCH_NAMESPACE": "Flowers",
        "BERTH_CLOUDWATCH_DIMENSIONS": "EndpointName=flowers, VariantName=AllTraffic",
        "BERTH_LOG_FORMAT": "json",
    }
    with serving(base, **environ, **asked) as server:
        server.wait_for("READY")
        if environ:
            given = {"model_name": "a", "url": f"{base}/models/a/model"}
            assert server.ask("POST", "/models", json.dumps(given).encode())[0] == 200
        for _ in range(3):
            assert server.ask("POST", path, picture())[0] == 200
        assert server.ask("POST", path, b"junk")[0] == 415
        assert server.end() == 0
        log = server.log.read_text()
    found = documents(log)
    assert found[0].dimensions == {"EndpointName": "flowers", "VariantName": "AllTraffic"}
    for name, expected in (("Invocations", 4), ("Invocation4XXErrors", 1), ("Images", 3)):
        assert total(found, name) == expected
    for line in log.splitlines():
        json.loads(line)


def test_no_metrics_are_written_by_default(tmp_path: Path) -> None:
    base, environ, path = one_model(tmp_path)
    with serving(base, **environ) as server:
        server.wait_for("READY")
        assert server.ask("POST", path, picture())[0] == 200
        assert server.end() == 0
        assert "_aws" not in server.log.read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BERTH_CLOUDWATCH_NAMESPACE", "AWS/SageMaker"),
        ("BERTH_CLOUDWATCH_NAMESPACE", ":flowers"),
        ("BERTH_CLOUDWATCH_NAMESPACE", "n" * 256),
        ("BERTH_CLOUDWATCH_NAMESPACE", "fl\u00f6wers"),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "EndpointName"),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "EndpointName="),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "A=1,A=2"),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "A=1,"),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "Latency=1"),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "_aws=1"),
        ("BERTH_CLOUDWATCH_DIMENSIONS", "A=" + "x" * 1025),
        ("BERTH_CLOUDWATCH_DIMENSIONS", ",".join(f"A{n}=1" for n in range(31))),
    ],
)
def test_invalid_cloudwatch_settings_are_refused_at_start(name: str, value: str) -> None:
    with pytest.raises(ServerSettingsError, match=f"{name}: found .*, expected "):
        Settings.from_environment({name: value})

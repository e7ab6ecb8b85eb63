"""SageMaker's inference contract, for the `serve` command and the images."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.conftest import WHAT_SERVES

pytestmark = pytest.mark.parametrize("platform", WHAT_SERVES, indirect=True)

STOP_LIMIT = 30
"""Seconds between SageMaker's SIGTERM and its SIGKILL."""
STATES = {"STARTING", "LOADING", "WARMING", "READY", "FAILED"}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def encoded(kind: str, size: int = 40) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (200, 60, 60)).save(file, kind)
    return file.getvalue()


def array(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


@pytest.fixture(scope="module")
def endpoint(platform: Any, trained: Any) -> Iterator[Any]:
    """A ready endpoint of the trained model."""
    with platform.serve(trained.tree.model) as endpoint:
        endpoint.until_ready()
        yield endpoint


def assert_still_serving(endpoint: Any) -> None:
    assert endpoint.invoke(encoded("PNG"), "image/png").status_code == 200
    assert endpoint.ping().status_code == 200


def test_ping_returns_503_with_the_state_until_the_server_is_ready(
    platform: Any, trained: Any
) -> None:
    with platform.serve(trained.tree.model) as endpoint:
        *before, last = endpoint.until_ready()
    assert last.json()["status"] == "READY"
    for answer in before:
        assert answer.status_code == 503
        assert answer.json()["status"] in STATES - {"READY", "FAILED"}


def test_the_first_invocation_after_ready_is_answered(platform: Any, trained: Any) -> None:
    """/ping returns 200 only after a first prediction."""
    with platform.serve(trained.tree.model) as endpoint:
        endpoint.until_ready()
        assert endpoint.invoke(encoded("JPEG"), "image/jpeg").status_code == 200


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("PNG", "application/octet-stream"),
        ("JPEG", "IMAGE/JPEG; charset=binary"),
    ],
)
def test_raw_images(endpoint: Any, kind: str, content_type: str) -> None:
    answer = endpoint.invoke(encoded(kind), content_type)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert prediction["label"] in {"blue", "green", "red"}
    assert prediction["top"][0]["probability"] == prediction["probability"]
    assert sum(entry["probability"] for entry in prediction["top"]) == pytest.approx(1, abs=1e-4)


def test_instances_in_json(endpoint: Any) -> None:
    images = [encoded("PNG"), encoded("JPEG"), encoded("PNG", 64)]
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    answer = endpoint.invoke(json.dumps({"instances": instances}).encode(), "application/json")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == len(images)


def test_arrays(endpoint: Any, trained: Any) -> None:
    crop = trained.tree.description()["geometry"]["crop"]
    pixels = np.full((2, crop, crop, 3), 90, np.uint8)
    answer = endpoint.invoke(array(pixels), "application/x-npy")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 2


def test_a_batch_gets_the_predictions_of_its_single_images(endpoint: Any) -> None:
    images = [encoded("PNG"), encoded("PNG", 64)]
    alone = [endpoint.invoke(image, "image/png").json()["predictions"][0] for image in images]
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    body = json.dumps({"instances": instances}).encode()
    together = endpoint.invoke(body, "application/json").json()["predictions"]
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_a_compressed_body(endpoint: Any) -> None:
    """A gzip bomb of 26 KB is refused like a body of 26 MB."""
    packed = gzip.compress(encoded("BMP"))
    answer = endpoint.invoke(packed, "image/bmp", Content_Encoding="gzip")
    assert answer.status_code == 200, answer.text
    bomb = gzip.compress(bytes(26 * 1024 * 1024))
    assert endpoint.invoke(bomb, "image/bmp", Content_Encoding="gzip").status_code == 413
    assert endpoint.invoke(packed[:-9], "image/bmp", Content_Encoding="gzip").status_code == 400
    assert endpoint.invoke(packed, "image/bmp", Content_Encoding="br").status_code == 415
    assert_still_serving(endpoint)


def test_a_chunked_body(endpoint: Any) -> None:
    """The size limit applies although the length is not known in advance."""

    def post(size: int) -> requests.Response:
        image = encoded("PNG")
        pieces = (image if number == 0 else bytes(1 << 20) for number in range(size + 1))
        kind = {"Content-Type": "image/png"}
        return requests.post(f"{endpoint.url}/invocations", data=pieces, headers=kind, timeout=60)

    assert post(0).status_code == 200
    assert post(26).status_code == 413
    assert_still_serving(endpoint)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("application/jsonlines", "application/jsonlines"),
    ],
)
def test_accept_selects_the_response_format(endpoint: Any, accept: str, content_type: str) -> None:
    answer = endpoint.invoke(encoded("PNG"), "image/png", Accept=accept)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == content_type


@pytest.mark.parametrize("body", ["image", "garbage"])
def test_custom_attributes_are_returned(endpoint: Any, body: str) -> None:
    sent = {"image": encoded("PNG"), "garbage": b"not an image"}[body]
    answer = endpoint.invoke(sent, "image/png", **{ATTRIBUTES: "trace=17; user=me"})
    assert answer.headers[ATTRIBUTES] == "trace=17; user=me"


def test_explain_returns_a_heat_map(endpoint: Any) -> None:
    answer = endpoint.invoke(encoded("PNG"), "image/png", **{ATTRIBUTES: "explain=true"})
    (prediction,) = answer.json()["predictions"]
    with Image.open(io.BytesIO(base64.b64decode(prediction["heat_map"]))) as picture:
        assert picture.format == "PNG"


def test_predictions_are_streamed(endpoint: Any) -> None:
    images = [encoded("PNG"), encoded("JPEG"), b"not an image"]
    body = {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}
    headers = {ATTRIBUTES: "stream=true", "Accept": "application/jsonlines"}
    answer = endpoint.invoke(json.dumps(body).encode(), "application/json", **headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Transfer-Encoding"] == "chunked"
    *rows, last = (json.loads(line) for line in answer.text.splitlines())
    assert len(rows) == 2
    assert "instances[2]" in last["error"]
    assert endpoint.invoke(images[0], "image/png").status_code == 200


def test_other_sagemaker_headers_are_accepted(endpoint: Any) -> None:
    answer = endpoint.invoke(
        encoded("PNG"),
        "image/png",
        X_Amzn_SageMaker_Inference_Id="a" * 64,
        X_Amzn_SageMaker_Target_Variant="AllTraffic",
        X_Amzn_SageMaker_Session_Id="NEW_SESSION",
    )
    assert answer.status_code == 200, answer.text


WRONG = {
    "not an image": (400, b"not an image", "image/png", "*/*", "image"),
    "nothing": (400, b"", "image/jpeg", "*/*", "body"),
    "a truncated image": (400, encoded("JPEG")[:100], "image/jpeg", "*/*", "JPEG"),
    "broken JSON": (400, b"{", "application/json", "*/*", "JSON"),
    "no instances": (400, b'{"instances": []}', "application/json", "*/*", "instances"),
    "broken base64": (400, b'{"instances": [{"b64": "%"}]}', "application/json", "*/*", "b64"),
    "no pixels": (400, array(np.zeros((3, 3), np.uint8)), "application/x-npy", "*/*", "npy"),
    "another type": (415, b"a,b", "text/csv", "*/*", "text/csv"),
    "another answer": (406, encoded("PNG"), "image/png", "application/xml", "application/xml"),
    "too much": (413, bytes(26 * 1024 * 1024), "image/png", "*/*", "bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_request_gets_a_reason_and_the_server_keeps_serving(
    endpoint: Any, case: str
) -> None:
    status, body, content_type, accept, named = WRONG[case]
    answer = endpoint.invoke(body, content_type, Accept=accept)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    message = answer.json()["error"]
    assert named in message
    assert "\n" not in message
    assert_still_serving(endpoint)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/invocations", 405), ("POST", "/ping", 405)],
)
def test_unknown_paths_and_methods_get_json_errors(
    endpoint: Any, method: str, path: str, status: int
) -> None:
    answer = requests.request(method, endpoint.url + path, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_prometheus_metrics_count_invocations(endpoint: Any) -> None:
    def answered() -> float:
        scraped = requests.get(f"{endpoint.url}/metrics", timeout=10)
        assert scraped.status_code == 200
        families = text_string_to_metric_families(scraped.text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "berth_invocations_total" and sample.labels["status"] == "200"
        )

    before = answered()
    assert endpoint.invoke(encoded("PNG"), "image/png").status_code == 200
    end = time.monotonic() + 60
    while answered() <= before:  # counted once the response is sent
        assert time.monotonic() < end


def test_berth_log_format_json_writes_json_lines(
    platform: Any, trained: Any, wait_for: Any
) -> None:
    with platform.serve(trained.tree.model, {"BERTH_LOG_FORMAT": "json"}) as endpoint:
        endpoint.until_ready()
        sent = {"X-Amzn-SageMaker-Inference-Id": "mine-17"}
        assert endpoint.invoke(encoded("PNG"), "image/png", **sent).status_code == 200
        wait_for(lambda: "mine-17" in endpoint.running.logs(), endpoint.running)
        lines = [json.loads(line) for line in endpoint.running.logs().splitlines()]
    (line,) = (line for line in lines if line.get("path") == "/invocations")
    assert (line["status"], line["inference_id"], line["instances"]) == (200, "mine-17", 1)
    assert line["ms"] >= line["decode_ms"] > 0
    assert line["compute_ms"] > 0


def test_ping_is_answered_during_invocations(endpoint: Any) -> None:
    """Each ping has SageMaker's time limit of 2 s."""
    instances = [{"b64": base64.b64encode(encoded("PNG", 400)).decode()}] * 64
    body = json.dumps({"instances": instances}).encode()
    answers: list[int] = []

    def invoke() -> None:
        answers.append(endpoint.invoke(body, "application/json").status_code)

    clients = [threading.Thread(target=invoke) for _ in range(6)]
    for client in clients:
        client.start()
    pings = []
    while any(client.is_alive() for client in clients):
        pings.append(endpoint.ping().status_code)
    for client in clients:
        client.join()
    assert set(answers) == {200}
    assert set(pings) == {200}


def test_the_model_directory_is_not_changed(endpoint: Any, trained: Any) -> None:
    """In Docker it is mounted read-only, as SageMaker mounts it."""

    def digest() -> dict[Path, str]:
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in trained.tree.model.rglob("*")
            if path.is_file()
        }

    before = digest()
    assert_still_serving(endpoint)
    assert digest() == before


def test_execution_parameters_follow_the_batch_transform_variables(
    platform: Any, trained: Any
) -> None:
    environment = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "30",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2",
    }
    with platform.serve(trained.tree.model, environment) as endpoint:
        endpoint.until_ready()
        told = requests.get(f"{endpoint.url}/execution-parameters", timeout=60).json()
        large = endpoint.invoke(bytes(27 * 1024 * 1024), "image/png")
    assert told == {
        "MaxConcurrentTransforms": 2,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 30,
    }
    assert large.status_code == 400, "27 MB is too large for an image, not for the request"


def test_default_execution_parameters(endpoint: Any) -> None:
    told = requests.get(f"{endpoint.url}/execution-parameters", timeout=60).json()
    assert told["BatchStrategy"] in {"SINGLE_RECORD", "MULTI_RECORD"}
    assert told["MaxConcurrentTransforms"] >= 1
    assert 1 <= told["MaxConcurrentTransforms"] * told["MaxPayloadInMB"] <= 100


def test_the_server_listens_on_sagemaker_bind_to_port(platform: Any, trained: Any) -> None:
    with contextlib.ExitStack() as stack:
        environment = {"SAGEMAKER_BIND_TO_PORT": "9123", "SAGEMAKER_SAFE_PORT_RANGE": "9123-9199"}
        endpoint = stack.enter_context(platform.serve(trained.tree.model, environment))
        endpoint.until_ready()
        assert_still_serving(endpoint)


def test_sigterm_finishes_the_open_request_and_ends_the_server(platform: Any, trained: Any) -> None:
    body = encoded("PNG")
    with platform.serve(trained.tree.model) as endpoint, requests.Session() as idle:
        endpoint.until_ready()
        # An idle connection that is kept open must not delay the shutdown.
        assert idle.get(f"{endpoint.url}/ping", timeout=60).status_code == 200
        host, _, port = endpoint.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=STOP_LIMIT) as client:
            client.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"
                b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
            )
            # The server has accepted the request and waits for its body, so it must answer.
            assert client.recv(100).startswith(b"HTTP/1.1 100")
            endpoint.running.signal(signal.SIGTERM)
            client.sendall(body)
            answer = client.makefile("rb").readline()
        code = endpoint.running.wait(STOP_LIMIT)
        logs = endpoint.running.logs()
    assert answer.startswith(b"HTTP/1.1 200"), logs
    assert code == 0, logs


def test_a_broken_model_is_reported_by_ping_and_in_the_log(
    platform: Any, trained: Any, tmp_path: Path, wait_for: Any
) -> None:
    """The server keeps running; /ping returns 503 with the reason, which is also logged."""
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    with platform.serve(broken) as endpoint:
        wait_for(
            lambda: (answer := endpoint.ping()) is not None and answer.json()["status"] == "FAILED",
            endpoint.running,
        )
        answer = endpoint.ping()
        refused = endpoint.invoke(encoded("PNG"), "image/png")
        logs = endpoint.running.logs()
    assert answer.status_code == 503
    assert "model.json" in answer.json()["detail"]
    assert "model.json" in logs
    assert refused.status_code == 503
    assert refused.json()["error"]

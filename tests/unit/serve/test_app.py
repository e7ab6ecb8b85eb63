import base64
import gzip
import io
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from serve import app as app_module
from serve.app import create_app
from serve.errors import EngineFailed, Overloaded, TimedOut
from serve.http.invocations import ATTRIBUTES
from serve.inference.predictor import Predictor
from tests.unit.serve.artifacts import CLASSES, CROP, ChannelMeans, picture, settings_for, wait_for


def invoke(
    client: FlaskClient, body: bytes | None = None, content_type: str = "image/png", **headers: str
) -> TestResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    body = picture() if body is None else body
    return client.post("/invocations", data=body, content_type=content_type, headers=given)


def array(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def error_of(response: TestResponse) -> str:
    assert response.mimetype == "application/json"
    message = response.get_json()["error"]
    assert isinstance(message, str)
    assert "\n" not in message
    return message


def test_an_image_is_classified(client: FlaskClient) -> None:
    response = invoke(client)
    assert response.status_code == 200
    assert response.content_type == "application/json; charset=utf-8"
    (prediction,) = response.get_json()["predictions"]
    assert prediction["label"] == "red"
    assert prediction["top"][0] == {"label": "red", "probability": prediction["probability"]}
    assert [top["label"] for top in prediction["top"]] == list(CLASSES)
    assert sum(top["probability"] for top in prediction["top"]) == pytest.approx(1, abs=1e-6)


def test_json_and_npy_give_the_same_prediction_as_the_image(
    client: FlaskClient, predictor: Predictor
) -> None:
    alone = invoke(client).get_json()["predictions"]
    instances = [{"b64": base64.b64encode(picture()).decode()}] * 2
    as_json = invoke(client, json.dumps({"instances": instances}).encode(), "application/json")
    assert as_json.get_json()["predictions"] == alone * 2
    data = io.BytesIO()
    np.save(data, predictor.artifact.geometry.load(picture()))
    as_npy = invoke(client, data.getvalue(), "application/x-npy")
    assert as_npy.get_json()["predictions"] == alone


@pytest.mark.parametrize("content_type", ["IMAGE/PNG", "application/octet-stream; x=1"])
def test_content_type_is_parsed_as_in_http(client: FlaskClient, content_type: str) -> None:
    assert invoke(client, content_type=content_type).status_code == 200


@pytest.mark.parametrize(
    ("accept", "got"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*;q=0.5, image/png", "text/csv"),
        ("application/jsonlines", "application/jsonlines"),
        ("text/csv;q=0.4, application/jsonlines;q=0.9, */*;q=0.1", "application/jsonlines"),
        ("application/json;q=0, text/csv;q=0.1", "text/csv"),
    ],
)
def test_accept_is_negotiated(client: FlaskClient, accept: str, got: str) -> None:
    response = invoke(client, Accept=accept)
    assert (response.status_code, response.mimetype) == (200, got)


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "nonsense"])
def test_another_accept_is_not_acceptable(client: FlaskClient, accept: str) -> None:
    response = invoke(client, Accept=accept)
    assert response.status_code == 406
    assert "text/csv" in error_of(response)


FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n%b\r\n--b--\r\n'
BODIES: dict[str, Callable[[], bytes]] = {
    "image/png": picture,
    "application/octet-stream": picture,
    "application/json": lambda: json.dumps(
        {"instances": [{"b64": base64.b64encode(picture()).decode()}]}
    ).encode(),
    "multipart/form-data; boundary=b": lambda: FORM % picture(),
    "application/x-npy": lambda: array(np.full((1, CROP, CROP, 3), 9, np.uint8)),
}


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("content_type", BODIES)
def test_a_compressed_body_gives_the_same_prediction(
    client: FlaskClient, content_type: str, coding: str
) -> None:
    body = BODIES[content_type]()
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    answer = invoke(client, packed, content_type, Content_Encoding=coding)
    assert answer.status_code == 200, answer.text
    assert answer.get_json() == invoke(client, body, content_type).get_json()
    damaged = invoke(client, packed[:-5], content_type, Content_Encoding=coding)
    assert damaged.status_code == 400
    assert coding in error_of(damaged)


def test_another_coding_is_refused_with_the_supported_ones(client: FlaskClient) -> None:
    response = invoke(client, None, "image/png", Content_Encoding="br")
    assert response.status_code == 415
    assert "found br, expected gzip or deflate" in error_of(response)
    assert response.headers["Accept-Encoding"] == "gzip, deflate"
    assert invoke(client, None, "image/png", Content_Encoding="identity").status_code == 200


def test_custom_attributes_are_echoed_and_set_top_k(client: FlaskClient) -> None:
    response = invoke(client, None, "image/png", **{ATTRIBUTES: "trace=1a; top_k=2"})
    assert response.headers[ATTRIBUTES] == "trace=1a; top_k=2"
    assert len(response.get_json()["predictions"][0]["top"]) == 2


def test_a_prediction_is_explained_by_a_heat_map(client: FlaskClient) -> None:
    response = invoke(client, None, "image/png", **{ATTRIBUTES: "top_k=1,explain=true"})
    (prediction,) = response.get_json()["predictions"]
    assert len(prediction["top"]) == 1
    with Image.open(io.BytesIO(base64.b64decode(prediction["heat_map"]))) as picture:
        assert (picture.format, picture.size) == ("PNG", (CROP, CROP))
    plain = invoke(client, None, "image/png", **{ATTRIBUTES: "explain=false"})
    assert "heat_map" not in plain.get_json()["predictions"][0]


def test_every_instance_has_its_own_heat_map(client: FlaskClient) -> None:
    pictures = [picture(colour) for colour in ("red", "blue")]
    instances = [{"b64": base64.b64encode(each).decode()} for each in pictures]
    body = json.dumps({"instances": instances}).encode()
    headers = {ATTRIBUTES: "explain=true", "Accept": "application/jsonlines"}
    rows = invoke(client, body, "application/json", **headers).text.splitlines()
    first, second = (json.loads(row)["heat_map"] for row in rows)
    assert first != second


@pytest.mark.parametrize(
    ("attributes", "accept", "count", "status", "named"),
    [
        ("explain=yes", "", 1, 400, ATTRIBUTES),
        ("explain=true", "text/csv", 1, 406, "Accept"),
        ("explain=true", "", 9, 413, "instances"),
    ],
)
def test_an_impossible_explanation_is_refused(
    client: FlaskClient, attributes: str, accept: str, count: int, status: int, named: str
) -> None:
    instances = [{"b64": base64.b64encode(picture()).decode()}] * count
    body = json.dumps({"instances": instances}).encode()
    headers = {ATTRIBUTES: attributes, "Accept": accept}
    response = invoke(client, body, "application/json", **headers)
    assert response.status_code == status
    assert error_of(response).startswith(named)


def stream(client: FlaskClient, *images: bytes) -> TestResponse:
    instances = [{"b64": base64.b64encode(each).decode()} for each in images]
    headers = {ATTRIBUTES: "top_k=1,stream=true", "Accept": "application/jsonlines"}
    body = json.dumps({"instances": instances}).encode()
    return invoke(client, body, "application/json", **headers)


def test_a_stream_has_a_line_for_each_image(client: FlaskClient) -> None:
    colours = ("red", "lime", "red")
    response = stream(client, *(picture(colour) for colour in colours))
    assert (response.status_code, response.mimetype) == (200, "application/jsonlines")
    assert response.headers[ATTRIBUTES] == "top_k=1,stream=true"
    assert "Content-Length" not in response.headers
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert [row["label"] for row in rows] == ["red", "green", "red"]
    assert len(rows[0]["top"]) == 1


def test_a_line_is_sent_when_its_image_is_predicted(
    client: FlaskClient, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def rows(*_: Any, **__: Any) -> Iterator[Any]:
        for number in range(3):
            sent.append(number)
            yield np.array([0.2, 0.3, 0.5], np.float32)

    monkeypatch.setattr(predictor, "stream", rows)
    lines = stream(client, *[picture()] * 3).iter_encoded()
    assert next(lines)
    assert sent == [0]
    assert next(lines)
    assert sent == [0, 1]
    assert len(list(lines)) == 1


def test_an_error_ends_a_stream_with_a_line(client: FlaskClient, predictor: Predictor) -> None:
    response = stream(client, picture(), b"no image", picture())
    assert response.status_code == 200
    first, last = (json.loads(line) for line in response.text.splitlines())
    assert first["label"] == "red"
    assert "instances[1]" in last["error"]
    assert predictor.waiting == 0
    assert stream(client, b"no image", picture()).status_code == 400, "none was sent yet"


def test_an_abandoned_stream_frees_its_place(
    predictor: Predictor, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "IN_FLIGHT", 1)
    client = create_app(predictor, settings_for(model_dir)).test_client()
    left = stream(client, picture(), picture())
    assert invoke(client).status_code == 503, "its place is taken while it is read"
    left.close()
    assert invoke(client).status_code == 200


@pytest.mark.parametrize(
    ("attributes", "accept", "status", "named"),
    [
        ("stream=1", "application/jsonlines", 400, ATTRIBUTES),
        ("stream=true", "application/json", 406, "Accept"),
        ("stream=true", "", 406, "Accept"),
    ],
)
def test_an_impossible_stream_is_refused(
    client: FlaskClient, attributes: str, accept: str, status: int, named: str
) -> None:
    response = invoke(client, None, "image/png", **{ATTRIBUTES: attributes, "Accept": accept})
    assert response.status_code == status
    assert error_of(response).startswith(named)


def test_custom_attributes_are_echoed_with_errors(client: FlaskClient) -> None:
    response = invoke(client, b"junk", "image/png", **{ATTRIBUTES: "trace=1a"})
    assert response.status_code == 400
    assert response.headers[ATTRIBUTES] == "trace=1a"


@pytest.mark.parametrize("attributes", ["top_k=none", "a" * 1025, "caf\xe9"])
def test_invalid_custom_attributes_are_refused(client: FlaskClient, attributes: str) -> None:
    response = invoke(client, None, "image/png", **{ATTRIBUTES: attributes})
    assert response.status_code == 400
    assert ATTRIBUTES in error_of(response)
    assert response.headers.get(ATTRIBUTES, "") in ("", "top_k=none")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "image/png", 400),
        (b"not an image", "image/png", 400),
        (picture()[:50], "image/png", 400),
        (picture(), "text/plain", 415),
        (b"text", "", 415),
        (b"{", "application/json", 400),
        (b'{"instances": [' + b"{}," * 9_999 + b"{}]}", "application/json", 413),
        (b"\x80\x04junk", "application/x-npy", 400),
        (bytes(1024 * 1024 + 1), "image/png", 413),
    ],
)
def test_the_server_refuses_and_keeps_serving(
    client: FlaskClient, body: bytes, content_type: str, status: int
) -> None:
    response = invoke(client, body, content_type)
    assert response.status_code == status
    assert "expected" in error_of(response) or "cut short" in error_of(response)
    assert invoke(client).status_code == 200


def test_a_chunked_body_is_bounded_as_well(client: FlaskClient) -> None:
    def send(size: int) -> TestResponse:
        return client.open(
            "/invocations",
            method="POST",
            content_type="image/png",
            input_stream=io.BytesIO(picture() + bytes(size)),
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )

    assert send(0).status_code == 200
    assert send(2 * 1024 * 1024).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/models", 404),
        ("GET", "/invocations", 405),
        ("DELETE", "/ping", 405),
    ],
)
def test_other_paths_and_methods_are_json_errors(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert error_of(response).startswith(f"found {method} {path}, expected GET /ping")
    assert ("Allow" in response.headers) == (status == 405)


def test_execution_parameters_are_the_settings(client: FlaskClient) -> None:
    assert client.get("/execution-parameters").get_json() == {
        "MaxConcurrentTransforms": 3,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 1,
    }


def test_ping_is_200_only_when_ready(model_dir: Path) -> None:
    gate = threading.Event()

    def load(*_: Any, **__: Any) -> ChannelMeans:
        assert gate.wait(30)
        return ChannelMeans()

    predictor = Predictor(model_dir, cpus=1, gpu=False, load=load)
    client = create_app(predictor, settings_for(model_dir)).test_client()
    assert client.get("/ping").status_code == 503
    assert client.get("/ping").get_json()["status"] == "STARTING"
    predictor.start()
    wait_for(predictor, "LOADING")
    response = client.get("/ping")
    assert (response.status_code, response.get_json()["status"]) == (503, "LOADING")
    response = invoke(client)
    assert response.status_code == 503
    assert "the model is LOADING" in error_of(response)
    gate.set()
    wait_for(predictor, "READY")
    response = client.get("/ping")
    assert (response.status_code, response.get_json()) == (200, {"status": "READY"})
    predictor.stop()


def test_a_failed_model_is_reported_by_every_path(tmp_path: Path) -> None:
    predictor = Predictor(tmp_path, cpus=1, gpu=False)
    client = create_app(predictor, settings_for(tmp_path)).test_client()
    predictor.start()
    wait_for(predictor, "FAILED")
    response = client.get("/ping")
    assert response.status_code == 503
    assert "no model.json" in response.get_json()["detail"]
    response = invoke(client)
    assert response.status_code == 503
    assert "no model.json" in error_of(response)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Overloaded("512 images are waiting already"), 503, "512 images"),
        (TimedOut("no answer"), 503, "no answer"),
        (EngineFailed("RuntimeError: hiccup"), 500, "hiccup"),
        (KeyError("secret"), 500, "KeyError"),
    ],
)
def test_server_errors_are_reported(
    client: FlaskClient,
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    said: str,
) -> None:
    def predict(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(predictor, "stream", predict)
    response = invoke(client)
    assert response.status_code == status
    assert said in error_of(response)
    assert "secret" not in error_of(response)
    assert ("Retry-After" in response.headers) == isinstance(error, Overloaded)
    monkeypatch.undo()
    assert invoke(client).status_code == 200


def test_too_many_requests_get_retry_after(
    predictor: Predictor, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "IN_FLIGHT", 2)
    app = create_app(predictor, settings_for(model_dir))
    inside, leave = threading.Semaphore(0), threading.Event()

    def wait_inside(*_: Any, **__: Any) -> Iterator[Any]:
        inside.release()
        assert leave.wait(30)
        yield np.array([0.2, 0.3, 0.5], np.float32)

    monkeypatch.setattr(predictor, "stream", wait_inside)
    with ThreadPoolExecutor(2) as pool:
        answered = [pool.submit(invoke, app.test_client()) for _ in range(2)]
        for _ in answered:
            assert inside.acquire(timeout=60)
        refused = invoke(app.test_client())
        assert app.test_client().get("/ping").status_code == 200
        leave.set()
        assert [answer.result(30).status_code for answer in answered] == [200, 200]
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "overloaded" in error_of(refused)
    assert invoke(app.test_client()).status_code == 200


def test_concurrent_requests_each_get_their_own_answer(
    predictor: Predictor, model_dir: Path
) -> None:
    app = create_app(predictor, settings_for(model_dir))

    def shade(value: int) -> float:
        image = np.full((CROP, CROP, 3), 50, np.uint8)
        image[..., 0] = value
        data = io.BytesIO()
        np.save(data, image)
        answer = invoke(app.test_client(), data.getvalue(), "application/x-npy").get_json()
        tops = {top["label"]: top["probability"] for top in answer["predictions"][0]["top"]}
        return float(tops["red"])

    values = list(range(0, 256, 5))
    with ThreadPoolExecutor(8) as pool:
        shades = list(pool.map(shade, values))
    assert shades == pytest.approx([(v + 1) / (v + 1 + 51 + 51) for v in values], abs=1e-5)

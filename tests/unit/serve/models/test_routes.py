import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from serve.errors import OutOfMemory
from serve.models import routes
from serve.models.registry import Registry
from serve.models.routes import create_models_app
from tests.unit.serve.artifacts import ChannelMeans, picture, settings_for, write_artifact

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_artifact(tmp_path / "models" / name / "model")
    return tmp_path / "models"


@pytest.fixture
def registry(root: Path) -> Iterator[Registry]:
    registry = Registry(root, cpus=2, load=lambda *_, **__: ChannelMeans())
    yield registry
    registry.stop()


@pytest.fixture
def client(registry: Registry, tmp_path: Path) -> FlaskClient:
    return create_models_app(registry, settings_for(tmp_path)).test_client()


def load(client: FlaskClient, root: Path, name: str) -> TestResponse:
    return client.post("/models", json={"model_name": name, "url": f"{root}/{name}/model"})


def error_of(response: TestResponse) -> str:
    assert response.mimetype == "application/json"
    message = response.get_json()["error"]
    assert isinstance(message, str)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def test_a_model_is_loaded_invoked_and_unloaded(client: FlaskClient, root: Path) -> None:
    described = {"modelName": "a", "modelUrl": f"{root}/a/model"}
    assert client.get("/ping").status_code == 200
    assert client.get("/models").get_json() == {"models": []}
    assert client.get("/models/a").status_code == 404

    loaded = load(client, root, "a")
    assert (loaded.status_code, loaded.get_json()) == (200, described)
    assert load(client, root, "a").status_code == 409
    assert client.get("/models").get_json() == {"models": [described]}
    assert client.get("/models/a").get_json() == described
    assert client.get("/ping").status_code == 200

    response = client.post(
        "/models/a/invoke",
        data=picture(),
        content_type="image/png",
        headers={ATTRIBUTES: "top_k=2", "X-Amzn-SageMaker-Target-Model": "a.tar.gz"},
    )
    assert response.status_code == 200
    assert response.headers[ATTRIBUTES] == "top_k=2"
    (prediction,) = response.get_json()["predictions"]
    assert prediction["label"] == "red"
    assert len(prediction["top"]) == 2

    assert client.delete("/models/a").status_code == 200
    for response in (
        client.get("/models/a"),
        client.delete("/models/a"),
        client.post("/models/a/invoke", data=picture(), content_type="image/png"),
    ):
        assert response.status_code == 404
        assert "'a' is not loaded" in error_of(response)


def test_a_model_is_invoked_as_on_a_single_model_server(client: FlaskClient, root: Path) -> None:
    load(client, root, "a")

    def invoke(body: bytes, kind: str, **headers: str) -> TestResponse:
        return client.post(
            "/models/a/invoke", data=body, content_type=kind, headers=dict(headers.items())
        )

    instances = {"instances": [{"b64": base64.b64encode(picture()).decode()}] * 3}
    answer = invoke(json.dumps(instances).encode(), "application/json")
    assert len(answer.get_json()["predictions"]) == 3
    assert invoke(picture(), "image/png", Accept="text/csv").mimetype == "text/csv"
    assert invoke(b"junk", "image/png").status_code == 400
    assert invoke(picture(), "image/png", Accept="application/xml").status_code == 406
    assert invoke(bytes(2 << 20), "image/png").status_code == 413
    assert invoke(b"a,b", "text/csv").status_code == 415
    refused = invoke(b"junk", "image/png", **{ATTRIBUTES: "trace=17"})
    assert refused.headers[ATTRIBUTES] == "trace=17"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "request body"),
        (b"{", "request body"),
        (b"[]", "request body"),
        (b"\xff\xfe", "request body"),
        (b"[" * 30_000, "request body"),
        (b"{}", "model_name"),
        (b'{"model_name": 5, "url": "/x"}', "model_name"),
        (b'{"model_name": "", "url": "/x"}', "model_name"),
        (b'{"model_name": "a/b", "url": "/x"}', "model_name"),
        (b'{"model_name": "a\\nb", "url": "/x"}', "model_name"),
        (b'{"model_name": "a\\ud800", "url": "/x"}', "model_name"),
        (b'{"model_name": "a"}', "url"),
        (b'{"model_name": "a", "url": null}', "url"),
        (b'{"model_name": "a", "url": "/etc"}', "url"),
        (b'{"model_name": "a", "url": "../../etc"}', "url"),
    ],
)
def test_an_invalid_load_request_is_explained(client: FlaskClient, body: bytes, named: str) -> None:
    response = client.post("/models", data=body, content_type="application/json")
    assert response.status_code == 400
    assert error_of(response).startswith(f"{named}: ")
    assert client.get("/models").get_json() == {"models": []}


def test_a_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    response = client.post("/models", data=bytes(100_000), content_type="application/json")
    assert response.status_code == 413
    assert "at most 65,536 bytes" in error_of(response)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.json", b"{}", "model.json"),
        ("model.json", b"[" * 100_000, "model.json"),
        ("model.json", None, "no model.json"),
        ("model.safetensors", None, "model.safetensors"),
        ("openvino/model.xml", None, "model.xml"),
    ],
)
def test_a_broken_artifact_is_400_without_paths(
    client: FlaskClient, root: Path, name: str, content: bytes | None, said: str
) -> None:
    file = root / "a" / "model" / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    response = load(client, root, "a")
    assert response.status_code == 400
    assert said in error_of(response)
    assert str(root) not in error_of(response)
    assert client.get("/models/a").status_code == 404
    assert client.get("/ping").status_code == 200


def test_the_list_of_models_is_paginated(
    client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "PAGE", 2)
    names = ["a", "b", "c d&e", "f", "ü"]
    monkeypatch.setattr(registry, "names", lambda: [(name, f"/{name}") for name in names])
    found: list[str] = []
    query: dict[str, Any] = {}
    for _ in range(3):
        page = client.get("/models", query_string=query).get_json()
        found += [model["modelName"] for model in page["models"]]
        query = {"next_page_token": page.get("nextPageToken")}
    assert found == names
    assert query == {"next_page_token": None}
    # A model unloaded since its page was read does not remove another from the list.
    names.remove("b")
    page = client.get("/models", query_string={"next_page_token": "b"}).get_json()
    assert [model["modelName"] for model in page["models"]] == ["c d&e", "f"]


def test_too_little_memory_is_507(
    client: FlaskClient, registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OutOfMemory("memory: found 5 MiB free, expected 300 MiB")

    monkeypatch.setattr(registry, "load", full)
    response = load(client, root, "a")
    assert response.status_code == 507
    assert error_of(response).startswith("memory: found 5 MiB")


def test_an_unexpected_error_shows_only_its_type(
    client: FlaskClient, registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(registry, "load", broken)
    response = load(client, root, "a")
    assert response.status_code == 500
    assert "KeyError" in error_of(response)
    assert "secret" not in error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/invocations", 404),
        ("GET", "/execution-parameters", 404),
        ("GET", "/models/a/b", 404),
        ("GET", "/models/a/invoke", 405),
        ("PUT", "/models", 405),
    ],
)
def test_other_paths_and_methods_are_json_errors(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert error_of(response).startswith(f"found {method} {path}, expected GET /ping, GET or POST")


def test_too_many_concurrent_loads_are_refused(
    registry: Registry, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MANAGED", 0)
    client = create_models_app(registry, settings_for(root)).test_client()
    for response in (load(client, root, "a"), client.delete("/models/a")):
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"

"""SageMaker's container contract for multi-model endpoints, for the command and the images."""

import io
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.contract.conftest import WHAT_SERVES

pytestmark = pytest.mark.parametrize("platform", WHAT_SERVES, indirect=True)

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
MULTI_MODEL = {"SAGEMAKER_MULTI_MODEL": "true", "BERTH_MAX_MODELS": "2"}


def encoded() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 60, 60)).save(file, "PNG")
    return file.getvalue()


def load(endpoint: Any, name: str, folder: str = "") -> requests.Response:
    url = f"{endpoint.base}/models/{folder or name}/model"
    return requests.post(
        f"{endpoint.url}/models", json={"model_name": name, "url": url}, timeout=120
    )


def get(endpoint: Any, path: str) -> requests.Response:
    return requests.get(f"{endpoint.url}{path}", timeout=30)


def unload(endpoint: Any, name: str) -> requests.Response:
    return requests.delete(f"{endpoint.url}/models/{name}", timeout=120)


def invoke(endpoint: Any, name: str, **headers: str) -> requests.Response:
    return endpoint.invoke(encoded(), "image/png", f"/models/{name}/invoke", **headers)


def loaded(endpoint: Any) -> list[str]:
    return [model["modelName"] for model in get(endpoint, "/models").json()["models"]]


@pytest.fixture(scope="module")
def models(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three valid models, a truncated one and a symlink, laid out as SageMaker unpacks archives."""
    root = tmp_path_factory.mktemp("models")
    for name in ("a", "b", "c", "cut"):
        shutil.copytree(trained.tree.model, root / name / "model")
    weights = root / "cut" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    (root / "linked").mkdir()
    (root / "linked" / "model").symlink_to("/etc")
    return root


@pytest.fixture
def endpoint(platform: Any, models: Path) -> Iterator[Any]:
    with platform.serve(models, MULTI_MODEL, place="models") as endpoint:
        endpoint.until_ready()
        yield endpoint


def test_models_are_loaded_listed_invoked_evicted_and_unloaded(endpoint: Any) -> None:
    assert get(endpoint, "/models").json() == {"models": []}
    assert invoke(endpoint, "a").status_code == 404
    described = {"modelName": "a", "modelUrl": f"{endpoint.base}/models/a/model"}
    assert load(endpoint, "a").status_code == 200
    assert load(endpoint, "a").status_code == 409
    assert get(endpoint, "/models").json() == {"models": [described]}
    assert get(endpoint, "/models/a").json() == described

    assert load(endpoint, "b").status_code == 200
    answer = invoke(endpoint, "a", **{ATTRIBUTES: "top_k=2"})
    assert answer.status_code == 200, answer.text
    assert answer.headers[ATTRIBUTES] == "top_k=2"
    assert len(answer.json()["predictions"][0]["top"]) == 2

    # Two models fit: the least recently used one is evicted.
    assert load(endpoint, "c").status_code == 200
    assert loaded(endpoint) == ["a", "c"]
    assert get(endpoint, "/models/b").status_code == 404
    # The client does not know of the eviction: the model is loaded again.
    again = invoke(endpoint, "b")
    assert again.json() == invoke(endpoint, "c").json()
    assert loaded(endpoint) == ["b", "c"]

    assert unload(endpoint, "b").status_code == 200
    assert unload(endpoint, "b").status_code == 404
    assert invoke(endpoint, "b").status_code == 404
    assert endpoint.ping().status_code == 200


def test_invalid_models_fail_with_one_line_and_the_server_keeps_serving(endpoint: Any) -> None:
    for name, folder in (
        ("cut", "cut"),
        ("none", "none"),
        ("up", "../model"),
        ("up", "a/../../../etc"),
        ("linked", "linked"),
    ):
        answer = load(endpoint, name, folder)
        assert answer.status_code == 400, answer.text
        message = answer.json()["error"]
        assert "\n" not in message
        assert "Traceback" not in message
    assert loaded(endpoint) == []
    assert load(endpoint, "a").status_code == 200
    assert invoke(endpoint, "a").status_code == 200
    assert get(endpoint, "/nowhere").status_code == 404


def test_models_are_loaded_and_unloaded_under_load(endpoint: Any) -> None:
    """Three models compete for two places; each is loaded and unloaded while it is invoked."""
    statuses: list[int] = []

    def client(name: str) -> None:
        for _ in range(3):
            statuses.append(load(endpoint, name).status_code)
            statuses.extend(invoke(endpoint, name).status_code for _ in range(3))
            statuses.append(unload(endpoint, name).status_code)

    clients = [threading.Thread(target=client, args=(name,)) for name in "abcabc"]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    # 404: the other client of this model has unloaded it. 507: both models in memory are in use.
    assert set(statuses) <= {200, 404, 409, 507}
    assert 200 in statuses
    assert endpoint.ping().status_code == 200
    assert loaded(endpoint) == []


def test_sigterm_ends_the_server(endpoint: Any) -> None:
    assert load(endpoint, "a").status_code == 200
    endpoint.running.signal(signal.SIGTERM)
    assert endpoint.running.wait(30) == 0, endpoint.running.logs()

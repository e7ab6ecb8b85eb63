"""Contents of the serving image, and its errors for what only the full image can do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.docker,
    pytest.mark.parametrize("platform", ["slim"], indirect=True),
]

LARGEST = 450e6
"""Size limit in bytes, as `docker image ls` counts them."""
LISTING = """
import importlib.metadata as m, importlib.util as u, json
absent = ("torch", "torchvision", "pip", "sagemaker_training", "smdebug", "boto3", "local")
print(json.dumps([[d.name for d in m.distributions()], [n for n in absent if u.find_spec(n)]]))
"""
NEEDED = {"berth-vision", "flask", "gunicorn", "numpy", "openvino", "pillow", "simplejpeg"}


@pytest.fixture(scope="module")
def facts(engine: Any, serving_image: str) -> dict[str, Any]:
    return dict(engine.images.get(serving_image).attrs)


def test_the_image_is_small_and_its_default_command_is_serve(
    platform: Any, facts: dict[str, Any]
) -> None:
    assert facts["Size"] <= LARGEST
    assert facts["Config"]["Cmd"] == ["serve"]
    assert not facts["Config"]["Entrypoint"]


def test_sagemaker_labels_equal_those_of_the_full_image(
    platform: Any, facts: dict[str, Any], engine: Any, image: str
) -> None:
    def labels(config: dict[str, Any]) -> dict[str, str]:
        return {name: value for name, value in config["Labels"].items() if "sagemaker" in name}

    found = labels(facts["Config"])
    assert found["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert found == labels(engine.images.get(image).attrs["Config"])


def test_the_image_has_only_the_servers_packages(platform: Any) -> None:
    with platform.command(["python", "-c", LISTING], network_mode="none") as running:
        assert running.wait(120) == 0, running.logs()
        installed, unwanted = json.loads(running.logs())
    assert {name.lower() for name in installed} >= NEEDED
    assert unwanted == []


def test_training_fails_and_names_the_full_image(platform: Any, make_tree: Any) -> None:
    tree = make_tree()
    result = platform.train(tree)
    assert result.code == 1
    assert len(result.logs.splitlines()) == 1, result.logs
    assert "can only serve" in result.logs
    assert "berth:latest" in result.logs
    assert tree.failure == result.logs


def test_serving_a_model_without_an_export_fails_and_names_the_full_image(
    platform: Any, trained: Any, tmp_path: Path, wait_for: Any
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.tree.model, model)
    shutil.rmtree(model / "openvino")
    description = json.loads((model / "model.json").read_text())
    description["export"] = None
    description["sha256"] = {
        name: found for name, found in description["sha256"].items() if "openvino" not in name
    }
    (model / "model.json").write_text(json.dumps(description))

    with platform.serve(model) as endpoint:
        wait_for(
            lambda: (answer := endpoint.ping()) is not None and answer.json()["status"] == "FAILED",
            endpoint.running,
        )
        detail = endpoint.ping().json()["detail"]
        logs = endpoint.running.logs()
    assert "no OpenVINO export" in detail
    assert "berth:latest" in detail
    assert f"cannot serve: {detail}" in logs
    assert "Traceback" not in logs

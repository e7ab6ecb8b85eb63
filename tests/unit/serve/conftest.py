from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from container.artifact import Artifact
from serve.app import create_app
from serve.inference.predictor import Predictor
from tests.unit.serve.artifacts import ChannelMeans, settings_for, wait_for, write_artifact


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "model")


@pytest.fixture
def artifact(model_dir: Path) -> Artifact:
    return Artifact.read(model_dir)


@pytest.fixture
def predictor(model_dir: Path) -> Iterator[Predictor]:
    predictor = Predictor(model_dir, cpus=2, gpu=False, load=lambda *_, **__: ChannelMeans())
    predictor.start()
    wait_for(predictor, "READY")
    yield predictor
    predictor.stop()


@pytest.fixture
def client(predictor: Predictor, model_dir: Path) -> FlaskClient:
    return create_app(predictor, settings_for(model_dir)).test_client()

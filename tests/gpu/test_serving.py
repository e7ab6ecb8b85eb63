"""Serving on a GPU, by PyTorch."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from flows import ask, golden, serve, train

CLOSE = 0.01
"""Probabilities of float16 against float32."""


@pytest.fixture(scope="module")
def trained(jobs: Any) -> Any:
    return train(jobs(epochs=6))


@pytest.mark.gpu("the engine in float16, against float32")
def test_engine(trained: Any, figure: Any) -> None:
    from container.artifact import Artifact
    from serve.inference.engine import TorchEngine, load_engine

    artifact = Artifact.read(trained.base / "model")
    engine = load_engine(artifact, cpus=2, gpu=True)
    exact = load_engine(artifact, cpus=2, gpu=True, precision="float32")
    assert isinstance(engine, TorchEngine)
    side = artifact.geometry.crop
    batch = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    apart = float(np.abs(engine.predict(batch) - exact.predict(batch)).max())
    assert apart <= CLOSE
    started, rounds = time.perf_counter(), 50
    for _ in range(rounds):
        engine.predict(batch)
    rate = rounds * len(batch) / (time.perf_counter() - started)
    figure(f"{engine.name}: {rate:,.0f} images/s, within {apart:.1e}")
    assert torch.cuda.memory_allocated() > 0


@pytest.mark.gpu("the server answers the golden image")
def test_server(trained: Any, figure: Any) -> None:
    pytest.importorskip("flask", reason="flask")
    pytest.importorskip("gunicorn", reason="gunicorn")
    picture, expected = golden(trained.base)
    with serve(trained.base) as address:
        answered = ask(address, picture)
        started, rounds = time.perf_counter(), 50
        for _ in range(rounds):
            ask(address, picture)
        spent = (time.perf_counter() - started) / rounds
    assert answered == pytest.approx(expected, abs=CLOSE)
    assert "PyTorch" in (trained.base / "serve.log").read_text()
    figure(f"{1000 * spent:.1f} ms a request")

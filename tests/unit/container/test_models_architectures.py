"""Every torchvision classifier: trained, checkpointed, resumed, exported and served once, small.

A sample of families with special requirements runs here; `make nightly` runs them all.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models as zoo

from container import train
from container.architectures import build_network
from container.artifact import Artifact
from container.errors import JobEnded
from container.training.weights import find_weights, fit_weights
from serve.inference.engine import Engine, OpenVinoEngine, TorchEngine

SAMPLE = ("mnasnet0_5", "googlenet")
EVERY = os.environ.get("BERTH_ARCHITECTURES") == "all"
SIZES = {
    "alexnet": 64,
    "squeezenet": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "vit_h_14": 56,
    "vit": 64,
    "maxvit_t": 224,
}
"""The smallest convenient image for families that do not take 32 pixels."""


def _size(arch: str) -> int:
    return next((size for name, size in SIZES.items() if arch.startswith(name)), 32)


def _build(*arguments: Any, **options: Any) -> tuple[nn.Module, str]:
    """Build a network whose batch statistics converge after a step or two, not hundreds."""
    network, head = build_network(*arguments, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
    return network, head


def _die(*_: object, **__: object) -> None:
    raise OSError("died before its model was written")


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write {train,validation}/{dark,light}/*.png: 2 and 1 images of each class."""
    root = tmp_path_factory.mktemp("few")
    noise = np.random.default_rng(0)
    for split, count in (("train", 2), ("validation", 1)):
        for name, level in (("dark", 40), ("light", 200)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = level + noise.integers(-40, 41, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def folder_of(job: Callable[..., Path]) -> Iterator[Callable[..., Path]]:
    """Run the `job` fixture and remove its output, as a large network takes gigabytes."""
    yield job
    shutil.rmtree(job.base, ignore_errors=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("arch", zoo.list_models(module=zoo) if EVERY else SAMPLE)
def test_an_architecture_is_trained_resumed_exported_and_served(
    folder_of: Callable[..., Path],
    few_images: Path,
    arch: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = {
        "arch": arch,
        "image_size": _size(arch),
        "batch_size": 4,
        "optimizer": "sgd",
        "learning_rate": 1e-6,
        "gradient_clip": 1,  # statistics of four values have wild gradients
        "data": few_images,
    }
    monkeypatch.setattr(train, "build_network", _build)
    with monkeypatch.context() as patch:
        patch.setattr(train, "finish", _die)
        with pytest.raises(JobEnded, match="died before its model was written"):
            folder_of(epochs=1, **told)
    base = folder_of(epochs=2, export=True, **told)
    log = capsys.readouterr().out
    assert "resuming from the checkpoint at epoch 2" in log

    artifact = Artifact.read(base / "model")
    golden = json.loads((base / "output" / "data" / "evaluation.json").read_text())["golden"]
    data = (base / "output" / "data" / golden["file"]).read_bytes()
    engine: Engine
    if artifact.openvino is None:
        assert "its probabilities differ from PyTorch's by" in log
        engine = TorchEngine(artifact, 1, gpu=False)
    else:
        engine = OpenVinoEngine(artifact, 1)
    (served,) = engine.predict(artifact.geometry.load(data)[None])
    for told_of in golden["predictions"]:
        place = artifact.classes.index(told_of["label"])
        # Hundreds of layers with random weights amplify rounding; trained ones stay within 1e-4.
        assert served[place] == pytest.approx(told_of["probability"], abs=5e-4)

    network, head = build_network(arch, 2, image_size=_size(arch), stem=artifact.stem)
    weights = find_weights(str(base / "model"), arch, None)
    assert weights is not None
    assert fit_weights(network, weights, head)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights.state[name])

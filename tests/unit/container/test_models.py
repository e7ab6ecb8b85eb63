from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from container.architectures import build_network
from container.artifact import Artifact
from container.errors import ArtifactError
from container.images.geometry import Geometry
from container.models import Classifier, load_classifier


def test_a_classifier_normalises_pixels_and_returns_probabilities() -> None:
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            seen.append(images)
            return torch.tensor([[0.0, 1.0]]).repeat(len(images), 1)

    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    pixels[..., 0] = 255
    out = Classifier(Spy())(torch.from_numpy(pixels))
    assert torch.allclose(out.sum(1), torch.ones(3))
    assert seen[0].shape == (3, 3, 4, 4)
    assert seen[0][0, 0, 0, 0].item() == pytest.approx((1 - 0.485) / 0.229, rel=1e-5)
    assert seen[0][0, 2, 0, 0].item() == pytest.approx(-0.406 / 0.225, rel=1e-5)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalising_does_not_change_the_input_or_its_layout(kind: Any, layout: Any) -> None:
    pixels = torch.randint(0, 256, (2, 3, 5, 6)).to(kind).contiguous(memory_format=layout)
    before = pixels.clone()
    normalized = Classifier(torch.nn.Identity()).normalize(pixels)
    assert torch.equal(pixels, before)
    assert normalized.dtype == torch.float32
    assert normalized.is_contiguous(memory_format=layout)


def _artifact(folder: Any, classes: Any = ("a", "b", "c")) -> Any:
    return Artifact(
        path=folder,
        arch="resnet18",
        stem="small",
        head_hidden=(8,),
        dropout=0.1,
        image_size=32,
        classes=classes,
        geometry=Geometry.for_size(32),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.5, 0.5),
        export=None,
        provenance={},
    )


def test_loaded_classifier_is_the_stored_one(tmp_path: Path) -> None:
    network, _ = build_network(
        "resnet18", 3, image_size=32, stem="small", head_hidden=(8,), dropout=0.1
    )
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    artifact = _artifact(tmp_path)
    loaded = load_classifier(artifact)
    assert not loaded.training
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    expected = Classifier(network, artifact.mean, artifact.std).eval()(pixels)
    assert torch.equal(loaded(pixels), expected)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    network, _ = build_network(
        "resnet18", 4, image_size=32, stem="small", head_hidden=(8,), dropout=0.1
    )
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"resnet18 with 3 classes.*size mismatch"):
        load_classifier(_artifact(tmp_path))

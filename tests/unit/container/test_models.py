from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models as zoo

from container.artifact import Artifact
from container.errors import ArtifactError
from container.images.geometry import Geometry
from container.models import Classifier, ModelError, build_network, has_small_stem, load_classifier

ONE_OF_EACH_FAMILY = [
    ("resnet18", 32),
    ("resnext50_32x4d", 32),
    ("mobilenet_v2", 32),
    ("mobilenet_v3_small", 32),
    ("squeezenet1_1", 64),
    ("shufflenet_v2_x0_5", 32),
    ("mnasnet0_5", 32),
    ("densenet121", 32),
    ("efficientnet_b0", 32),
    ("regnet_y_400mf", 32),
    ("convnext_tiny", 32),
    ("swin_t", 32),
    ("vit_b_32", 64),
    ("alexnet", 64),
    ("googlenet", 64),
    ("inception_v3", 96),
]


def zeroed(arch: str, classes: int, *, image_size: int) -> tuple[nn.Module, str]:
    """A network of zeros: random values for 88 million weights take seconds."""
    # RegNet computes its widths with tensors.
    with torch.device("cpu" if arch.startswith("regnet") else "meta"):
        network, head = build_network(arch, classes, image_size=image_size)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    return network, head


@pytest.mark.parametrize(("arch", "size"), ONE_OF_EACH_FAMILY)
def test_every_family_gets_a_head_of_the_jobs_own(arch: Any, size: Any) -> None:
    network, head = zeroed(arch, 7, image_size=size)
    network.train()
    logits = network(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 7)
    assert sum(p.numel() for p in network.get_submodule(head).parameters()) > 0


def test_head_with_hidden_layers_and_dropout() -> None:
    network, head = build_network("resnet18", 5, image_size=32, head_hidden=(64, 16), dropout=0.3)
    kinds = [type(layer).__name__ for layer in network.get_submodule(head).children()]
    assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(("stem", "side"), [("standard", 8), ("small", 16), ("full", 32)])
def test_stems_keep_more_of_small_images(stem: str, side: int) -> None:
    network, _ = build_network("resnet18", 2, image_size=32, stem=stem)
    shapes = []
    network.layer1.register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape))
    network(torch.randn(1, 3, 32, 32).repeat(2, 1, 1, 1))
    assert shapes[0][-1] == side


def test_only_resnets_have_small_stems() -> None:
    assert has_small_stem("resnet50")
    assert has_small_stem("resnext50_32x4d")
    assert not has_small_stem("mobilenet_v2")
    with pytest.raises(ModelError, match="mobilenet_v2 has only its standard stem"):
        build_network("mobilenet_v2", 2, image_size=32, stem="small")


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="'resnet19' is not a torchvision classifier.*resnet18"):
        build_network("resnet19", 2, image_size=32)


@pytest.mark.parametrize(("arch", "size"), [("alexnet", 16), ("vit_b_16", 50)])
def test_image_size_that_does_not_fit(arch: str, size: int) -> None:
    with pytest.raises(ModelError, match=f"'image_size': {size} does not fit {arch}"):
        build_network(arch, 2, image_size=size)


def test_convolutional_head_refuses_hidden_layers() -> None:
    with pytest.raises(ModelError, match="convolutional head"):
        build_network("squeezenet1_1", 2, image_size=64, head_hidden=(8,))


def test_classifier_normalises_and_answers_probabilities() -> None:
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


def test_every_torchvision_classifier_is_known_by_name() -> None:
    assert {"resnet18", "resnet50", "vit_b_16"} <= set(zoo.list_models(module=zoo))

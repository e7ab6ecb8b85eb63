from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models as zoo

from container.architectures import (
    ModelError,
    build_network,
    has_small_stem,
    is_timm,
    known,
    timm_preprocessing,
    torchvision_preprocessing,
)
from container.images.preprocessing import Preprocessing

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
    ("efficientnet_lite0", 32),
    ("timm/resnet18", 32),
    ("vit_tiny_patch16_224", 64),
    ("convnext_atto", 32),
    ("regnety_002", 32),
    ("resnetv2_50x1_bit.goog_in21k_ft_in1k", 32),
    ("mobilevit_xxs", 64),
]


def zeroed(arch: str, classes: int, *, image_size: int) -> tuple[nn.Module, str]:
    """Build a network of zeros, as random values for 88 million weights take seconds."""
    # torchvision's RegNet computes its widths with tensors.
    with torch.device("cpu" if arch.startswith("regnet_") else "meta"):
        network, head = build_network(arch, classes, image_size=image_size)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    return network, head


@pytest.mark.parametrize(("arch", "size"), ONE_OF_EACH_FAMILY)
def test_every_family_gets_a_head_for_the_jobs_classes(arch: Any, size: Any) -> None:
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
    assert not has_small_stem("timm/resnet50")
    assert has_small_stem("resnext50_32x4d")
    assert not has_small_stem("mobilenet_v2")
    with pytest.raises(ModelError, match="mobilenet_v2 has only its standard stem"):
        build_network("mobilenet_v2", 2, image_size=32, stem="small")


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="'resnet19' is not a classifier of .* or timm.*resnet18"):
        build_network("resnet19", 2, image_size=32)


@pytest.mark.parametrize(("arch", "size"), [("alexnet", 16), ("vit_b_16", 50)])
def test_image_size_that_does_not_fit(arch: str, size: int) -> None:
    with pytest.raises(ModelError, match=f"'image_size': {size} does not fit {arch}"):
        build_network(arch, 2, image_size=size)


def test_convolutional_head_refuses_hidden_layers() -> None:
    with pytest.raises(ModelError, match="convolutional head"):
        build_network("squeezenet1_1", 2, image_size=64, head_hidden=(8,))


@pytest.mark.parametrize(
    ("arch", "name", "timms"),
    [
        ("resnet18", "resnet18", False),
        ("timm/resnet18", "timm/resnet18", True),
        ("efficientnet_lite0", "efficientnet_lite0", True),
        ("timm/efficientnet_lite0", "efficientnet_lite0", True),
        ("resnet50.a1_in1k", "resnet50.a1_in1k", True),
    ],
)
def test_a_name_in_both_libraries_means_torchvisions(arch: str, name: str, timms: bool) -> None:
    assert known(arch) == name
    assert is_timm(name) is timms


@pytest.mark.parametrize("arch", ["timm/resnet19", "resnet50.a99_in1k", "timm/", "lite9"])
def test_an_unknown_name_of_timm(arch: str) -> None:
    with pytest.raises(ModelError, match=f"'{arch}' is not a classifier of torchvision or timm"):
        known(arch)


def test_every_classifier_of_torchvision_keeps_its_meaning() -> None:
    for arch in zoo.list_models(module=zoo):
        assert known(arch) == arch
        assert not is_timm(arch)


@pytest.mark.parametrize("arch", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_two_heads_are_refused(arch: str) -> None:
    with torch.device("meta"), pytest.raises(ModelError, match="no single 1000-way layer"):
        build_network(arch, 2, image_size=224)


def test_the_training_settings_of_pretrained_weights() -> None:
    lite = timm_preprocessing("efficientnet_lite0")
    assert (lite.image_size, lite.interpolation, lite.crop_share) == (224, "bicubic", 0.875)
    tagged = timm_preprocessing("vit_base_patch16_224")
    assert tagged.mean == tagged.std == (0.5, 0.5, 0.5)
    assert torchvision_preprocessing("inception_v3").image_size == 299
    assert torchvision_preprocessing("efficientnet_b0").interpolation == "bicubic"


@pytest.mark.parametrize(
    ("file", "resize"),
    [("resnet50-0676ba61.pth", 256), ("resnet50-11ad3fa6.pth", 232), ("resnet50.safetensors", 232)],
)
def test_the_file_shows_which_of_torchvisions_two_weights_it_has(file: str, resize: int) -> None:
    found = torchvision_preprocessing("resnet50", file)
    assert found.geometry(224).resize == resize
    assert found.mean == Preprocessing().mean

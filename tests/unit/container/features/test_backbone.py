"""The backbone before a network's head, and the features the head takes."""

import pytest
import torch
from torch import nn

from container.architectures import build_network
from container.errors import FeatureError
from container.features.backbone import feature_width, headless, weights_digest
from container.models import Classifier
from tests.unit.container.features import tiny


def test_the_width_is_that_of_the_heads_input() -> None:
    assert feature_width(tiny.classifier(), tiny.HEAD, tiny.SIDE) == tiny.WIDTH


@pytest.mark.parametrize(
    ("arch", "size", "width"),
    [("shufflenet_v2_x0_5", 32, 1024), ("test_vit", 160, 64), ("test_efficientnet", 64, 256)],
)
def test_headless_networks_of_torchvision_and_timm(arch: str, size: int, width: int) -> None:
    network, head = build_network(arch, 3, image_size=size, head_hidden=(8,), dropout=0.5)
    classifier = Classifier(network)
    assert feature_width(classifier, head, size) == width
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        whole = classifier.eval()(pixels)
        with headless(classifier, head) as backbone:
            features = backbone(pixels)
        joined = network.get_submodule(head)(features).softmax(1)
    assert torch.equal(joined, whole)


def test_a_convolutional_head_is_refused() -> None:
    network, head = build_network("squeezenet1_1", 3, image_size=64)
    with pytest.raises(FeatureError, match=r"takes a tensor of shape \(512, 3, 3\) for each image"):
        feature_width(Classifier(network), head, 64)


def test_layers_after_the_head_are_refused() -> None:
    classifier = tiny.classifier()
    classifier.network.append(nn.Softplus())
    with pytest.raises(FeatureError, match="other layers follow the head '4'"):
        feature_width(classifier, tiny.HEAD, tiny.SIDE)


def test_the_digest_ignores_the_head() -> None:
    one, same, other = tiny.classifier(0), tiny.classifier(0), tiny.classifier(1)
    with torch.no_grad():
        same.network.get_submodule(tiny.HEAD).weight.zero_()
    assert weights_digest(one, tiny.HEAD) == weights_digest(same, tiny.HEAD)
    assert weights_digest(one, tiny.HEAD) != weights_digest(other, tiny.HEAD)


def test_a_frozen_backbone_keeps_no_graph() -> None:
    classifier = tiny.classifier()
    classifier.network.requires_grad_(False)
    head = classifier.network.get_submodule(tiny.HEAD).requires_grad_(True)
    taken: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _module, given: taken.append(given[0]))
    logits = classifier.network(torch.zeros(2, 3, tiny.SIDE, tiny.SIDE))
    assert logits.requires_grad
    assert taken[0].grad_fn is None
    assert not taken[0].requires_grad

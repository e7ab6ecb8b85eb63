"""Compares class activation maps with Grad-CAM computed from PyTorch's gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from torch import nn

from container.results.conversion import convert
from serve.explanations.class_activation import ClassActivation
from tests.unit.serve.artifacts import write_graph

SIDE = 24


class Network(nn.Module):
    """Takes pixels like the export; a feature map, its average, and a head that is not linear."""

    def __init__(self, pool: bool = True, bypass: bool = False, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, channels, 3, stride=2), nn.ReLU()
        )
        side = 1 if pool else 5
        self.average = nn.AdaptiveAvgPool2d(1) if pool else nn.Identity()
        self.head = nn.Sequential(
            nn.Linear(channels * side * side, 12), nn.GELU(), nn.Linear(12, 4)
        )
        self.bypass = bypass

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.average(features).flatten(1)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.float().permute(0, 3, 1, 2) / 255
        scores = self.scores(self.features(images))
        if self.bypass:
            scores = scores + images.mean((2, 3))[:, :1]
        return scores.softmax(1)


def export(network: Network, folder: Path) -> Path:
    graph = convert(network.eval(), np.zeros((2, SIDE, SIDE, 3), np.float32))
    path = folder / "model.xml"
    ov.save_model(graph, path, compress_to_fp16=False)
    return path


def grad_cam(network: Network, image: np.ndarray, label: int) -> Any:
    images = torch.from_numpy(image)[None].float().permute(0, 3, 1, 2) / 255
    features = network.features(images).detach().requires_grad_()
    network.scores(features)[0, label].backward()
    assert features.grad is not None
    weights = features.grad.mean((2, 3), keepdim=True)
    heat = (weights * features).sum(1)[0].relu().detach().numpy()
    return heat / (heat.max() or 1)


@pytest.mark.parametrize("channels", [16, 64, 150])
def test_the_map_equals_grad_cam(tmp_path: Path, channels: int) -> None:
    network = Network(channels=channels)
    activation = ClassActivation.of(export(network, tmp_path), cpus=1)
    assert activation is not None
    image = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    maps = [grad_cam(network, image, label) for label in range(4)]
    assert any(each.any() for each in maps)
    for label, expected in enumerate(maps):
        np.testing.assert_allclose(activation.heat(image, label), expected, atol=0.01)
        rounded = activation.heat(image.astype(np.float32) + 0.2, label)
        np.testing.assert_allclose(rounded, expected, atol=0.01)


@pytest.mark.parametrize("network", [Network(pool=False), Network(bypass=True)])
def test_a_graph_without_a_feature_map_and_head_has_no_class_activation(
    tmp_path: Path, network: Network
) -> None:
    assert ClassActivation.of(export(network, tmp_path), cpus=1) is None


def test_an_average_over_other_axes_is_not_a_feature_map(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.xml")
    assert ClassActivation.of(tmp_path / "model.xml", cpus=1) is None

"""A converted graph predicts like its network for any number of images."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]

from container.architectures import build_network
from container.models import Classifier
from container.openvino_runtime import core
from container.results.conversion import convert

SIDE = 32


class Conditional(nn.Module):
    """Branches on its pixels with `torch.where` only."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return torch.where(means > 0, means, 2 - means)


class Asking(nn.Module):
    """Branches on the number of images, so a trace records one branch only."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return means if images.shape[0] < 1_000_000 else -means


class Fixed(nn.Module):
    """Traces without an error, but only for two images."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return means.reshape(2, 3) if is_tracing() else means


class Different(nn.Module):
    """Behaves differently when traced."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return 1 - means if is_tracing() else means


class Unscripted(nn.Module):
    """Cannot be traced."""

    def forward(self, images: Tensor) -> Tensor:
        if is_tracing():
            raise ValueError("cannot be traced")
        return images.mean((2, 3))


class Counting(nn.Module):
    """Converts the number of images to a Python number, so no graph fits every number."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + torch.zeros(int(images.shape[0]), 3)


class Branching(nn.Module):
    """Branches on its pixels in Python, so no graph has both branches."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return means if images.sum() > 0 else -means


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Record the modules passed to `torch.export.export`."""
    given: list[nn.Module] = []
    export = torch.export.export

    def recorded(module: nn.Module, *arguments: object, **options: object) -> object:
        given.append(module)
        return export(module, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.export, "export", recorded)
    return given


def classifier(network: nn.Module) -> Classifier:
    return Classifier(network).eval()


def check(module: Classifier, graph: object) -> None:
    """Compare graph and network for one image, for the number traced, and for more."""
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    random = np.random.default_rng(1)
    for count in (1, 2, 7):
        images = random.uniform(0, 255, (count, SIDE, SIDE, 3)).astype(np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(images)).numpy()
        found = compiled(images)[0]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("arch", ["resnet18", "shufflenet_v2_x0_5"])
def test_a_network_without_python_numbers_is_traced(arch: str, exports: list[nn.Module]) -> None:
    torch.manual_seed(0)
    module = classifier(build_network(arch, 3, image_size=SIDE)[0])
    check(module, convert(module, np.zeros((2, SIDE, SIDE, 3), np.float32)))
    assert exports == []


def test_both_branches_of_a_condition_are_in_a_trace(exports: list[nn.Module]) -> None:
    module = classifier(Conditional())
    check(module, convert(module, np.full((4, SIDE, SIDE, 3), 255, np.float32)))
    assert exports == []


@pytest.mark.parametrize("network", [Asking(), Fixed(), Different(), Unscripted()])
def test_a_network_that_cannot_be_traced_faithfully_is_exported(
    network: nn.Module, exports: list[nn.Module]
) -> None:
    module = classifier(network)
    check(module, convert(module, np.zeros((1, SIDE, SIDE, 3), np.float32)))
    assert exports == [module]


@pytest.mark.parametrize(("network", "said"), [(Branching(), "data-dep"), (Counting(), "batch")])
def test_a_network_that_cannot_be_converted_is_an_error(
    network: nn.Module, said: str, exports: list[nn.Module]
) -> None:
    with pytest.raises(Exception, match=said):
        convert(classifier(network), np.zeros((2, SIDE, SIDE, 3), np.float32))
    assert len(exports) == 1


def test_inputs_and_outputs_have_names() -> None:
    pixels = np.zeros((2, SIDE, SIDE, 3), np.float32)
    graph = convert(classifier(Conditional()), pixels, output="features")
    assert graph.input(0).get_names() == {"pixels"}
    assert graph.output(0).get_names() == {"features"}
    assert [str(dimension) for dimension in graph.input(0).partial_shape] == ["?", "32", "32", "3"]

"""The initial weights of a job are resolved and validated before any image is read."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from container.architectures import build_network
from container.errors import BerthError, WeightsError
from container.hyperparameters import Hyperparameters, frozen_untrained
from container.training.weights import Initialization


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Write the artifact of an earlier job: a ResNet with a small stem."""
    network, _ = build_network("resnet18", 2, image_size=32, stem="small")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({"arch": "resnet18", "stem": "small"}))
    return tmp_path


@pytest.mark.parametrize("name", ["", "model.safetensors"])
@pytest.mark.parametrize("size", [64, 96])
def test_the_stem_comes_from_the_earlier_model(earlier: Path, name: str, size: int) -> None:
    given = {"weights": str(earlier / name), "image_size": str(size)}
    start = Initialization.find(Hyperparameters.parse(given), None, main=True)
    assert start.stem == "small"
    assert start.weights is not None


def test_an_explicit_stem_is_kept(earlier: Path) -> None:
    hp = Hyperparameters.parse({"weights": str(earlier), "stem": "standard"})
    with pytest.raises(WeightsError, match="conv1.weight is"):
        Initialization.find(hp, None, main=True)


def test_an_earlier_model_of_another_architecture(earlier: Path) -> None:
    hp = Hyperparameters.parse({"weights": str(earlier), "arch": "resnet50"})
    with pytest.raises(WeightsError, match=r"a model of 'resnet18', but .*'arch' is 'resnet50'"):
        Initialization.find(hp, None, main=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arch": "resnet19"}, "'arch': 'resnet19' is not a classifier of torchvision or timm"),
        ({"arch": "vgg11", "stem": "small"}, "'stem'"),
        ({"arch": "squeezenet1_1", "head_hidden": "8"}, "'head_hidden'"),
        ({"arch": "alexnet", "image_size": "16"}, "'image_size': 16 does not fit"),
        ({"arch": "maxvit_t", "image_size": "100"}, "'image_size': 100 does not fit"),
        ({"weights": "/nowhere.pth"}, "'weights': no file /nowhere.pth"),
    ],
)
def test_impossible_combinations_are_named(given: dict[str, str], said: str) -> None:
    hp = Hyperparameters.parse({"weights": "none"} | given)
    with pytest.raises(BerthError) as caught:
        Initialization.find(hp, None, main=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_regnets_compute_their_widths_with_tensors() -> None:
    hp = Hyperparameters.parse({"arch": "regnet_y_400mf", "weights": "none", "image_size": "32"})
    assert Initialization.find(hp, None, main=True).weights is None


@pytest.mark.parametrize(
    ("freeze", "weights", "random"),
    [(True, "none", True), (True, "None", True), (True, "imagenet", False), (False, "none", False)],
)
def test_a_head_on_random_features_is_detected(freeze: bool, weights: str, random: bool) -> None:
    assert frozen_untrained(freeze, weights) is random


@pytest.mark.parametrize(
    ("given", "size", "interpolation"),
    [
        ({"arch": "efficientnet_lite0"}, 224, "bicubic"),
        ({"arch": "efficientnet_lite0", "image_size": "96"}, 96, "bicubic"),
        ({"arch": "efficientnet_lite1", "weights": "none"}, 224, "bilinear"),
    ],
)
def test_the_image_size_defaults_to_that_of_the_weights(
    given: dict[str, str], size: int, interpolation: str
) -> None:
    start = Initialization.find(Hyperparameters.parse(given), None, main=False)
    assert start.hp.image_size == size
    assert start.preprocessing.geometry(size).interpolation == interpolation


def test_the_preprocessing_of_an_earlier_model_is_kept(earlier: Path) -> None:
    stored = json.loads((earlier / "model.json").read_text())
    stored |= {
        "geometry": {"resize": 80, "crop": 72, "interpolation": "bicubic"},
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
    }
    (earlier / "model.json").write_text(json.dumps(stored))
    start = Initialization.find(Hyperparameters.parse({"weights": str(earlier)}), None, main=False)
    assert start.hp.image_size == 72
    assert start.preprocessing.geometry(72).to_json() == stored["geometry"]
    assert start.preprocessing.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("geometry", {"resize": 8, "crop": 72}), ("geometry", []), ("std", [0, 1, 1]), ("mean", "x")],
)
def test_an_invalid_description_of_an_earlier_model(
    earlier: Path, field: str, value: object
) -> None:
    stored = {"arch": "resnet18", "geometry": {"resize": 80, "crop": 72}, field: value}
    (earlier / "model.json").write_text(json.dumps(stored))
    with pytest.raises(
        WeightsError, match=rf"model.json: not an artifact's description: .*{field}"
    ):
        Initialization.find(Hyperparameters.parse({"weights": str(earlier)}), None, main=False)

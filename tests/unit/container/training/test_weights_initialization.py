"""What a job starts from is settled, and refused where it is wrong, before an image is read."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from container.errors import BerthError, WeightsError
from container.hyperparameters import Hyperparameters, frozen_untrained
from container.models import build_network
from container.training.weights import Initialization


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """What an earlier job left: a ResNet with a small stem."""
    network, _ = build_network("resnet18", 2, image_size=32, stem="small")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({"arch": "resnet18", "stem": "small"}))
    return tmp_path


@pytest.mark.parametrize("name", ["", "model.safetensors"])
@pytest.mark.parametrize("size", [64, 96])
def test_the_stem_is_the_earlier_models(earlier: Path, name: str, size: int) -> None:
    given = {"weights": str(earlier / name), "image_size": str(size)}
    start = Initialization.find(Hyperparameters.parse(given), None, main=True)
    assert start.stem == "small"
    assert start.weights is not None


def test_a_stem_that_was_asked_for_is_kept(earlier: Path) -> None:
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
        ({"arch": "resnet19"}, "'arch': 'resnet19' is not a torchvision classifier"),
        ({"arch": "vgg11", "stem": "small"}, "'stem'"),
        ({"arch": "squeezenet1_1", "head_hidden": "8"}, "'head_hidden'"),
        ({"arch": "alexnet", "image_size": "16"}, "'image_size': 16 does not fit"),
        ({"arch": "maxvit_t", "image_size": "100"}, "'image_size': 100 does not fit"),
        ({"weights": "/nowhere.pth"}, "'weights': no file /nowhere.pth"),
    ],
)
def test_what_is_not_possible_is_named(given: dict[str, str], said: str) -> None:
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
def test_a_head_on_random_features_is_known(freeze: bool, weights: str, random: bool) -> None:
    assert frozen_untrained(freeze, weights) is random

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from container.hyperparameters import Hyperparameters
from container.training.optimizer import (
    balanced_class_weights,
    clip_gradients,
    learning_rate_at,
    make_optimizer,
    set_learning_rate,
    stage_of,
)


def rates(**given: float | str) -> list[float]:
    hp = Hyperparameters(**given)
    return [learning_rate_at(step, hp, 10) for step in range(10 * hp.epochs)]


def test_cosine_decays_to_nearly_zero() -> None:
    curve = rates(epochs=4, learning_rate=0.4)
    assert curve[0] == 0.4
    assert curve[20] == pytest.approx(0.2)
    assert curve[-1] < 0.4 * 0.01
    assert curve == sorted(curve, reverse=True)


def test_warmup_is_linear_and_reaches_the_rate() -> None:
    curve = rates(epochs=3, learning_rate=1.0, warmup_epochs=1)
    assert curve[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert curve[10] == 1.0


def test_half_an_epoch_of_warmup() -> None:
    assert rates(epochs=1, learning_rate=1.0, warmup_epochs=0.5)[4] == 1.0


def test_constant() -> None:
    assert set(rates(epochs=2, learning_rate=0.3, schedule="constant")) == {0.3}


def test_warmup_longer_than_the_run_only_warms_up() -> None:
    curve = rates(epochs=1, learning_rate=1.0, warmup_epochs=9)
    assert curve == pytest.approx([0.1 * (i + 1) for i in range(10)])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimizer_options(name: str, kind: type[Any]) -> None:
    hp = Hyperparameters(
        optimizer=name, learning_rate=0.2, momentum=0.7, eps=1e-5, weight_decay=0.3
    )
    optimizer = make_optimizer(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), hp)
    assert type(optimizer) is kind
    decayed, spared = optimizer.param_groups
    assert (decayed["lr"], decayed["weight_decay"], spared["weight_decay"]) == (0.2, 0.3, 0.0)
    assert (len(decayed["params"]), len(spared["params"])) == (1, 3)
    if name == "sgd":
        assert decayed["momentum"] == 0.7
    else:
        assert decayed["eps"] == 1e-5


def test_frozen_parameters_are_not_optimized() -> None:
    network = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    optimizer = make_optimizer(network, Hyperparameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_balanced_weights_match_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_class_weights(labels, 3).numpy() == pytest.approx(expected)


def test_clipping_limits_the_norm_and_zero_does_not() -> None:
    for largest, expected in ((1.0, 1.0), (0.0, 20.0)):
        layer = nn.Linear(4, 1, bias=False)
        layer.weight.grad = torch.full((1, 4), 10.0)
        clip_gradients(layer.parameters(), largest)
        assert layer.weight.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_earlier_stages_have_lower_learning_rates() -> None:
    network = torchvision.models.resnet18()
    optimizer = make_optimizer(network, Hyperparameters(layer_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    rates = {
        id(parameter): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    assert rates[id(network.fc.weight)] == rates[id(network.fc.bias)] == 0.1
    assert rates[id(network.layer4[1].conv1.weight)] == 0.05
    assert rates[id(network.layer4[0].bn2.bias)] == 0.025
    assert rates[id(network.conv1.weight)] == min(rates.values())


def test_stages_of_real_architectures() -> None:
    network = torchvision.models.efficientnet_b0()
    assert stage_of(network, "features.0.1.weight") == "features.0"
    assert stage_of(network, "features.2.1.block.0.0.weight") == "features.2.1"
    assert stage_of(network, "classifier.1.bias") == "classifier"

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from container.monitoring.debugger.rules.activations import DeadRelu, SaturatedActivation, activity
from container.rules.requests import RuleError
from tests.unit.container.monitoring.debugger.rules.runs import (
    REGEX,
    fired,
    judge,
    layers,
    make_rule,
    request,
    saved,
    train,
    vectors,
)
from tests.unit.container.monitoring.debugger.training import random_data, tiny_network


def with_bias(network: nn.Sequential, layer: int, bias: float) -> nn.Sequential:
    nn.init.constant_(cast(Tensor, network[layer].bias), bias)
    return network


def test_large_negative_biases_kill_relus(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, with_bias(layers(8, 8), 2, -100.0), "DeadRelu")
    assert steps == [0, 1, 2, 3]
    assert rule.details.startswith("100 % of the units of 3_relu_output_0 are dead")
    assert rule.points == 4 * 2


def test_healthy_relus_do_not_fire(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(16, 16), "DeadRelu")
    assert (steps, rule.points, rule.details) == ([], 8, "")


def test_a_too_large_step_kills_relus(tmp_path: Path) -> None:
    steps, _ = judge(tmp_path, layers(16, 16), "DeadRelu", learning_rate=30.0)
    assert 0 not in steps
    assert 3 in steps


def test_dead_units_of_a_convolution_are_channels(tmp_path: Path) -> None:
    network = tiny_network()
    with torch.no_grad():
        network[0].bias[:5] = -100.0
    steps, rule = judge(tmp_path, network, "DeadRelu", data=random_data(classes=3), steps=1)
    assert steps == [0]
    assert rule.details.startswith("62 % of the units of 1_relu_output_0 are dead")
    steps, _ = judge(
        tmp_path / "b", network, "DeadRelu", {"threshold_layer": 62.5}, data=random_data(), steps=1
    )
    assert steps == []


def test_units_are_features_channels_and_features_of_tokens() -> None:
    active = np.zeros((4, 3, 5, 5), dtype=bool)
    active[:, 1] = True
    active[0, 2] = True
    assert activity(active).tolist() == [0.0, 100.0, 25.0]
    assert activity(active[:, :, 0, 0]).tolist() == [0.0, 100.0, 25.0]
    assert activity(active[:, :, 0, 0].reshape(2, 2, 3)).tolist() == [0.0, 100.0, 25.0]
    assert activity(np.array([True, False])).tolist() == [100.0, 0.0]
    assert activity(np.array(True)).tolist() == [100.0]
    assert activity(np.zeros((0, 3), dtype=bool)).size == 0


def test_a_relu_active_for_one_sample_in_a_hundred_is_not_dead(tmp_path: Path) -> None:
    outputs = torch.zeros(200, 4)
    outputs[:2] = 1.0
    trial = saved(tmp_path, [outputs, torch.zeros(200, 4), torch.full((2, 4), float("nan"))])
    assert fired(make_rule(DeadRelu, trial, tensor_regex=REGEX), trial) == [1]
    assert fired(
        make_rule(DeadRelu, trial, tensor_regex=REGEX, threshold_inactivity=1.1), trial
    ) == [0, 1]


def test_reductions_show_that_a_whole_layer_is_dead(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.zeros(8, 4), torch.ones(8, 4)], reductions="max")
    rule = make_rule(DeadRelu, trial, tensor_regex=REGEX)
    assert fired(rule, trial) == [0]
    assert rule.points == 1


def test_evaluation_steps_are_checked_too(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(8, 4), torch.zeros(8, 4)], modes="te")
    assert fired(make_rule(DeadRelu, trial, tensor_regex=REGEX), trial) == [1]


def test_a_network_without_relus_is_reported(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8, activation=nn.Tanh), "DeadRelu")
    assert (steps, rule.points) == ([], 0)
    assert "no tensor saved so far matches '.*relu_output'" in rule.details


def test_an_invalid_regular_expression_is_refused(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(1)])
    for rule in (DeadRelu, SaturatedActivation):
        with pytest.raises(RuleError, match=f"rule {rule.__name__}: parameter 'tensor_regex'"):
            make_rule(rule, trial, tensor_regex="[")


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid])
def test_huge_inputs_saturate(tmp_path: Path, activation: type[Any]) -> None:
    inputs, labels = vectors()
    network = layers(8, 8, activation=activation)
    steps, rule = judge(tmp_path, network, "SaturatedActivation", data=(1e4 * inputs, labels))
    assert steps == [0, 1, 2, 3]
    assert f"the units of 1_{activation.__name__.lower()}_input_0 are saturated" in rule.details


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid])
def test_healthy_activations_do_not_saturate(tmp_path: Path, activation: type[Any]) -> None:
    steps, rule = judge(tmp_path, layers(8, 8, activation=activation), "SaturatedActivation")
    assert (steps, rule.points, rule.details) == ([], 8, "")


def test_sigmoid_and_tanh_have_their_own_limits(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Sigmoid(), nn.Tanh())  # named 0_sigmoid and 1_tanh
    far = torch.full((4, 2), -12.0)
    trial = saved(tmp_path, [far, far - 12.0], network=network)
    assert fired(make_rule(SaturatedActivation, trial), trial) == [1]
    rule = make_rule(SaturatedActivation, trial, threshold_sigmoid_min=-10.0)
    assert fired(rule, trial) == [0, 1]
    assert fired(make_rule(SaturatedActivation, trial, threshold_tanh_max=0.0), trial) == [0, 1]


@pytest.mark.parametrize(("value", "expected"), [(20.0, [0]), (-20.0, [0]), (0.0, [])])
def test_reductions_show_that_a_whole_layer_is_saturated(
    tmp_path: Path, value: float, expected: list[int]
) -> None:
    inputs = torch.full((4, 2), value)
    trial = saved(tmp_path, [inputs], network=nn.Tanh(), reductions="min,max")
    rule = make_rule(SaturatedActivation, trial, tensor_regex="Tanh_input")
    assert fired(rule, trial) == expected
    assert (rule.points, bool(rule.details)) == (len(expected), True)


def test_a_network_without_sigmoid_or_tanh_is_reported(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.full((4, 2), 100.0)])
    rule = make_rule(SaturatedActivation, trial, tensor_regex=REGEX)
    assert fired(rule, trial) == []
    assert rule.details == "nothing to look at: input_images is named neither tanh nor sigmoid"


def test_nan_counts_as_active(tmp_path: Path) -> None:
    trial = train(tmp_path, layers(4, activation=nn.Tanh), [request("SaturatedActivation")])
    undefined = saved(tmp_path / "b", [torch.full((4, 2), float("nan"))], network=nn.Tanh())
    assert fired(make_rule(SaturatedActivation, trial), trial) == []
    rule = make_rule(SaturatedActivation, undefined, tensor_regex="Tanh_input")
    assert (fired(rule, undefined), rule.points) == ([], 1)

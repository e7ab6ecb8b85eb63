from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from container.monitoring.debugger.rules.registry import make
from container.monitoring.debugger.rules.weights import PoorWeightInitialization, WeightUpdateRatio
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
from tests.unit.container.monitoring.debugger.training import random_data


def scaled(network: nn.Sequential, *scales: float) -> nn.Sequential:
    """Return the network with its linear layers' weights scaled."""
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, scale in zip(linear, scales, strict=True):
            layer.weight *= scale
    return network


def wide(*scales: float) -> nn.Sequential:
    """Build two hidden layers wide enough for a meaningful variance."""
    return scaled(layers(64, 64), *scales)


def test_weights_of_very_different_variance_are_poorly_initialised(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, wide(1, 0.01, 1), "PoorWeightInitialization")
    assert 0 in steps
    assert "0_relu" not in rule.details
    assert "in 3_relu_input_0" in rule.details
    assert "in 1_relu_input_0" in rule.details


def test_he_initialisation_does_not_fire(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 12, "learning_rate": 0.01}
    steps, rule = judge(tmp_path, wide(1, 1, 1), "PoorWeightInitialization", **options)
    assert (steps, rule.details) == ([], "")
    assert rule.points == 10 * (2 + 3)  # ten steps: two activations, three weights' gradients


def test_a_network_without_gradients_is_poorly_initialised(tmp_path: Path) -> None:
    # All inputs of an activation are zero, and so are all gradients but the last bias's; the
    # labels are in balance, so that one is zero too, and the loss stays at ln 3.
    inputs, labels = vectors(samples=33)
    options: dict[str, Any] = {"steps": 8, "data": (inputs, labels)}
    steps, rule = judge(tmp_path, wide(0, 0, 0), "PoorWeightInitialization", **options)
    assert steps == [5, 6, 7]
    assert "percentile of gradient/Sequential_0.weight are only 0 apart" in rule.details
    assert "the loss has not fallen for 7 steps" in rule.details


def test_patience_is_in_steps_without_a_lower_loss(tmp_path: Path) -> None:
    asked = {"patience": 2, "steps": 4}
    data = vectors(samples=33)
    steps, _ = judge(tmp_path, wide(0, 0, 0), "PoorWeightInitialization", asked, steps=8, data=data)
    assert steps == [2, 3]


def test_narrow_gradients_after_a_fallen_loss_do_not_fire(tmp_path: Path) -> None:
    network = wide(1, 1, 1)
    inputs, labels = vectors()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    steps, rule = judge(tmp_path, network, "PoorWeightInitialization")
    assert (steps, rule.details) == ([], "")
    assert "apart" in rule._narrow(3)


def test_without_a_loss_gradients_alone_decide(tmp_path: Path) -> None:
    trial = train(tmp_path, wide(0, 0, 0), [request("PoorWeightInitialization")], steps=1)
    trial.collection("losses").include_regex.clear()
    trial.collection("losses").tensor_names = set()
    rule = make_rule(PoorWeightInitialization, trial)
    assert fired(rule, trial) == [0]
    assert rule.details.endswith("and no loss was saved")


def test_a_network_without_relus_is_judged_by_its_gradients_only(tmp_path: Path) -> None:
    network = layers(16, activation=nn.Tanh)
    steps, rule = judge(tmp_path, network, "PoorWeightInitialization")
    assert (steps, rule.points) == ([], 4 * 2)
    assert rule.details == "only gradients: no tensor matches '.*relu_input'"


def test_evaluation_steps_are_not_checked_for_initialisation(tmp_path: Path) -> None:
    asked = request("PoorWeightInitialization", threshold=0.0)
    trial = train(tmp_path, layers(8, 8), [asked], steps=2, validation=vectors(), validate_every=1)
    rule = make(asked, trial)
    training = [step for step in trial.steps() if rule.in_training(step)]
    assert len(training) < len(trial.steps())
    assert fired(rule, trial) == training


def test_reductions_of_activations_and_gradients_suffice(tmp_path: Path) -> None:
    values = [torch.zeros(4, 4), torch.full((4, 4), 1.0)]
    trial = saved(tmp_path, values, network=nn.ReLU(), reductions="variance,min,max")
    rule = make_rule(PoorWeightInitialization, trial, activation_inputs_regex=f"ReLU_input|{REGEX}")
    assert fired(rule, trial) == []
    assert rule.points == 4


def test_a_gradient_whose_extremes_are_close_is_narrow(tmp_path: Path) -> None:
    asked, data = request("PoorWeightInitialization"), vectors(samples=33)
    reductions = "variance,min,max,mean"
    trial = train(tmp_path / "a", wide(0, 0, 0), steps=8, data=data, reductions=reductions)
    rule = make(asked, trial)
    assert fired(rule, trial) == [5, 6, 7]
    trial = train(tmp_path / "b", wide(1, 1, 1), steps=8, data=data, reductions=reductions)
    assert fired(make(asked, trial), trial) == []


def test_weights_saved_as_reductions_cannot_be_compared_and_are_reported(tmp_path: Path) -> None:
    trial = train(tmp_path, layers(8), steps=2, reductions="mean,l2_norm")
    rule = make_rule(WeightUpdateRatio, trial)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert rule.details == (
        "nothing to look at: Sequential_2.weight has no elements, or was not saved whole"
    )


def test_too_large_a_learning_rate_moves_weights_too_much(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8), "WeightUpdateRatio", learning_rate=1e4)
    assert 1 in steps
    assert "times its size, more than 10" in rule.details


def test_a_learning_rate_of_zero_moves_weights_too_little(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8), "WeightUpdateRatio", learning_rate=0.0)
    assert steps == [1, 2, 3]
    assert rule.details == (
        "2 of 2 weights moved by less than 1e-08 of their size: "
        "Sequential_0.weight, Sequential_2.weight"
    )


def test_weights_that_change_normally_do_not_fire(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8), "WeightUpdateRatio")
    assert (steps, rule.points, rule.details) == ([], 3 * 2, "")


def test_the_ratio_is_one_of_norms(tmp_path: Path) -> None:
    asked = request("WeightUpdateRatio", large_threshold=0.0)
    network = layers(8)
    before = network[0].weight.detach().clone()
    trial = train(tmp_path, network, [asked], steps=2)
    rule = make(asked, trial)
    assert fired(rule, trial) == [1]
    name = "Sequential_0.weight"
    update = torch.from_numpy(trial.tensor(name).value(1)) - before
    expected = float(update.norm() / before.norm())
    assert rule._ratio(name, 1) == pytest.approx(expected, rel=1e-5)


def test_num_steps_compares_with_an_earlier_step(tmp_path: Path) -> None:
    asked = request("WeightUpdateRatio", num_steps=3)
    trial = train(tmp_path, layers(8), [asked], steps=5)
    far, near = make(asked, trial), make_rule(WeightUpdateRatio, trial, num_steps=1)
    name = "Sequential_0.weight"
    assert far._ratio(name, 4) > near._ratio(name, 4)
    then, now = (torch.from_numpy(trial.tensor(name).value(step)) for step in (1, 4))
    assert far._ratio(name, 4) == pytest.approx(float((now - then).norm() / then.norm()), rel=1e-5)


def test_steps_saved_too_far_apart_are_reported(tmp_path: Path) -> None:
    trial = train(tmp_path, layers(8), [request("WeightUpdateRatio")], steps=1)
    rule = make_rule(WeightUpdateRatio, trial, num_steps=1)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert "Sequential_2.weight was not saved in the 1 steps before" in rule.details


def frozen() -> nn.Sequential:
    network = layers(8)
    network[0].requires_grad_(False)
    return network


def test_frozen_weights_without_gradients_do_not_fire(tmp_path: Path) -> None:
    trial = train(tmp_path, frozen(), [request("WeightUpdateRatio"), request("VanishingGradient")])
    rule = make_rule(WeightUpdateRatio, trial)
    assert (fired(rule, trial), rule.points) == ([], 3)


def test_weights_that_start_at_zero_have_no_ratio(tmp_path: Path) -> None:
    network = layers(8)
    nn.init.zeros_(cast(Tensor, network[2].weight))
    asked = request("WeightUpdateRatio")
    trial = train(tmp_path, network, [asked], steps=3)
    rule = make(asked, trial)
    # At step 1 the last layer has just left zero, and the first has had no gradient yet.
    assert [rule._ratio(name, 1) for name in ("Sequential_0.weight", "Sequential_2.weight")] == [
        0.0,
        None,
    ]
    assert 2 not in fired(rule, trial)


def test_evaluation_steps_are_not_checked_for_weight_updates(tmp_path: Path) -> None:
    asked = request("WeightUpdateRatio")
    trial = train(tmp_path, layers(8), [asked], steps=3, validation=vectors(), validate_every=1)
    assert fired(make(asked, trial), trial) == []


def test_missing_weights_are_reported(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(2)] * 2)
    rule = make_rule(WeightUpdateRatio, trial)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert "is in collection 'weights'" in rule.details


def test_invalid_parameters_are_refused(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(1)])
    with pytest.raises(RuleError, match=r"'num_steps': expected at least 1, found 0"):
        make_rule(WeightUpdateRatio, trial, num_steps=0)
    with pytest.raises(RuleError, match=r"parameter 'activation_inputs_regex': '\*' is not"):
        make_rule(PoorWeightInitialization, trial, activation_inputs_regex="*")


def test_training_on_noise_does_not_fire(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), *layers(64, 64))
    network[1] = nn.Linear(192, 64)
    nn.init.kaiming_normal_(cast(Tensor, network[1].weight))
    data = random_data(classes=3)
    for rule in ("WeightUpdateRatio", "PoorWeightInitialization"):
        steps, _ = judge(tmp_path / rule, network, rule, data=data, steps=6, learning_rate=0.01)
        assert steps == []

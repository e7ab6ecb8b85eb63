from pathlib import Path

import pytest
import torch
from torch import nn

from container.monitoring.debugger.rules.gradients import ExplodingTensor, VanishingGradient
from container.rules.requests import RuleError
from tests.unit.container.monitoring.debugger.rules.runs import (
    REGEX,
    fired,
    judge,
    layers,
    make_rule,
    saved,
    train,
    vectors,
)


def test_the_gradients_of_a_deep_sigmoid_network_vanish(tmp_path: Path) -> None:
    deep = layers(*[8] * 12, activation=nn.Sigmoid)
    steps, rule = judge(tmp_path, deep, "VanishingGradient")
    assert steps == [0, 1, 2, 3]
    assert "in gradient/Sequential_0." in rule.details
    assert rule.points == 4 * 26


def test_the_gradients_of_a_shallow_network_do_not(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8, 8), "VanishingGradient")
    assert (steps, rule.points, rule.details) == ([], 4 * 6, "")


def test_a_threshold_is_compared_with_the_mean_of_absolute_values(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8, 8), "VanishingGradient", {"threshold": 100.0})
    assert steps == [0, 1, 2, 3]
    assert "6 of 6 tensors" in rule.details


def test_gradients_may_be_saved_as_their_absolute_mean(tmp_path: Path) -> None:
    deep = layers(*[8] * 12, activation=nn.Sigmoid)
    for network, expected in ((deep, [0, 1]), (layers(8), [])):
        folder = tmp_path / str(len(network))
        trial = train(folder, network, steps=2, reductions="abs_mean")
        rule = make_rule(VanishingGradient, trial)
        assert fired(rule, trial) == expected
        assert rule.points == 2 * len(list(network.parameters()))


def test_gradients_without_an_absolute_mean_are_reported(tmp_path: Path) -> None:
    trial = train(tmp_path, layers(8), steps=2, reductions="max")
    rule = make_rule(VanishingGradient, trial)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert rule.details.endswith("was not saved whole or as abs_mean")


def test_missing_gradients_are_reported(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(2)])
    rule = make_rule(VanishingGradient, trial)
    assert fired(rule, trial) == []
    assert rule.points == 0
    assert "no tensor saved so far is in collection 'gradients'" in rule.details
    assert REGEX in rule.details


def test_too_large_a_learning_rate_explodes(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8, 8), "ExplodingTensor", steps=6, learning_rate=1e30)
    assert steps[-1] == 5
    assert 0 not in steps
    assert "NaN" in rule.details


def test_a_healthy_run_does_not_explode(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8, 8), "ExplodingTensor", steps=6)
    assert (steps, rule.details) == ([], "")
    assert rule.points == 6 * (1 + 3 + 6)  # loss, weights, gradients


VALUES = [
    torch.tensor([1.0, float("inf"), -float("inf")]),
    torch.tensor([1.0, float("nan")]),
    torch.tensor(3.0),
    torch.tensor([1, 2]),
    torch.tensor(float("nan")),
    torch.full((4,), 3e38),
]


@pytest.mark.parametrize("only_nan", [False, True])
@pytest.mark.parametrize("reductions", ["", "min,max,mean,std,l2_norm", "abs_max,sum"])
def test_nan_is_found_in_values_and_in_reductions(
    tmp_path: Path, only_nan: bool, reductions: str
) -> None:
    trial = saved(tmp_path, VALUES, reductions=reductions)
    rule = make_rule(ExplodingTensor, trial, tensor_regex=REGEX, only_nan=only_nan)
    assert fired(rule, trial) == ([1, 4] if only_nan else [0, 1, 4])
    assert rule.points == len(VALUES)


@pytest.mark.parametrize(
    ("only_nan", "expected", "said"),
    [(False, [0, 1, 4], "its mean is nan"), (True, [1, 4], "its abs_mean is nan")],
)
def test_without_min_and_max_other_reductions_show_nan(
    tmp_path: Path, only_nan: bool, expected: list[int], said: str
) -> None:
    trial = saved(tmp_path, VALUES[:5], reductions="abs_mean,mean,std")
    rule = make_rule(ExplodingTensor, trial, only_nan=only_nan)
    assert fired(rule, trial) == expected
    assert said in rule.details


def test_reductions_without_extremes_are_skipped(tmp_path: Path) -> None:
    trial = saved(tmp_path, VALUES, reductions="std")
    rule = make_rule(ExplodingTensor, trial)
    assert fired(rule, trial) == []
    assert (rule.points, "saved whole or as min or max" in rule.details) == (0, True)


def test_an_expression_that_matches_nothing_is_reported(tmp_path: Path) -> None:
    trial = saved(tmp_path, VALUES)
    rule = make_rule(ExplodingTensor, trial, collection_names="no_such", tensor_regex="nowhere")
    assert fired(rule, trial) == []
    assert rule.points == 0
    assert "is in collection 'no_such' or matches 'nowhere'" in rule.details


def test_an_invalid_regular_expression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"rule ExplodingTensor: parameter 'tensor_regex': '\('"):
        make_rule(ExplodingTensor, saved(tmp_path, [torch.ones(1)]), tensor_regex="(")


def test_nan_in_the_data_is_seen_first_in_the_loss(tmp_path: Path) -> None:
    inputs, labels = vectors()
    inputs[3, 2] = float("nan")
    steps, rule = judge(tmp_path, layers(8), "ExplodingTensor", data=(inputs, labels), steps=1)
    assert steps == [0]
    assert rule.details.startswith("CrossEntropyLoss_output_0: 1 NaN of 1 values; also gradient/")

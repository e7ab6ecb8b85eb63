from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import torch
from moto import mock_aws
from torch import Tensor, nn

from container.monitoring.debugger.rules.registry import make
from container.monitoring.debugger.rules.tensors import (
    AllZero,
    SimilarAcrossRuns,
    TensorVariance,
    UnchangedTensor,
)
from container.monitoring.debugger.smdebug_fixes import ModeKeys
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

NAN, INF = float("nan"), float("inf")


def zero_start() -> nn.Sequential:
    """Build a network whose hidden units all start and stay at zero."""
    network = layers(8, 8)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def frozen(seed: int = 0) -> nn.Sequential:
    network = layers(8, 8, seed=seed)
    network[0].requires_grad_(False)
    return network


def test_weights_that_start_and_stay_at_zero(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, zero_start(), "AllZero", {"collection_names": "weights"})
    assert steps == [0, 1, 2, 3]
    assert rule.details.startswith("3 of 3 tensors are zero to at least 100 %: Sequential_0.weight")


def test_weights_that_are_not_zero(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, layers(8, 8), "AllZero", {"collection_names": "weights"})
    assert (steps, rule.points, rule.details) == ([], 12, "")


def test_half_of_the_outputs_of_a_relu_are_zero(tmp_path: Path) -> None:
    asked = {"tensor_regex": "relu_output", "threshold": 30.0}
    assert judge(tmp_path / "a", layers(64), "AllZero", asked)[0] == [0, 1, 2, 3]
    asked["threshold"] = 90.0
    assert judge(tmp_path / "b", layers(64), "AllZero", asked)[0] == []


ZEROS = [
    torch.zeros(3, 2),
    torch.tensor(0.0),
    torch.tensor([0, 0]),
    torch.tensor([0.0, 0.0, 0.0, NAN]),
    torch.zeros(0),
    torch.tensor([-1.0, 1.0]),
]


def test_zeros_of_any_shape_and_type(tmp_path: Path) -> None:
    trial = saved(tmp_path, ZEROS)
    rule = make_rule(AllZero, trial, tensor_regex=REGEX)
    assert fired(rule, trial) == [0, 1, 2]
    assert rule.points == 5
    assert fired(make_rule(AllZero, trial, tensor_regex=REGEX, threshold=75.0), trial) == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("reductions", ["abs_max", "l1_norm", "l2_norm", "min,max", "abs_mean"])
def test_reductions_show_that_all_values_are_zero(tmp_path: Path, reductions: str) -> None:
    trial = saved(tmp_path, [ZEROS[0], ZEROS[5]], reductions=reductions)
    rule = make_rule(AllZero, trial, tensor_regex=REGEX)
    assert (fired(rule, trial), rule.points) == ([0], 2)


@pytest.mark.parametrize("reductions", ["mean", "max", "std"])
def test_reductions_that_cannot_show_zeros_are_reported(tmp_path: Path, reductions: str) -> None:
    trial = saved(tmp_path, [ZEROS[0]], reductions=reductions)
    rule = make_rule(AllZero, trial, tensor_regex=REGEX)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert "whole or as abs_max or abs_mean or l1 or l2" in rule.details


def test_the_variance_of_weights_is_within_bounds_or_not(tmp_path: Path) -> None:
    within = {"collection_names": "weights", "max_threshold": 2.0, "min_threshold": 1e-4}
    network = layers(64, 64)
    steps, rule = judge(tmp_path / "a", network, "TensorVariance", within, learning_rate=0.01)
    assert (steps, rule.points, rule.details) == ([], 12, "")
    with torch.no_grad():
        cast(Tensor, network[2].weight).mul_(50)
    steps, rule = judge(tmp_path / "b", network, "TensorVariance", within, learning_rate=1e-6)
    assert steps == [0, 1, 2, 3]
    assert rule.details.startswith("the variance of Sequential_2.weight is ")
    with torch.no_grad():
        cast(Tensor, network[2].weight).mul_(1e-5)
    steps, rule = judge(tmp_path / "c", network, "TensorVariance", within, learning_rate=1e-6)
    assert steps == [0, 1, 2, 3]
    assert "outside 0.0001 to 2" in rule.details


def test_the_variance_of_odd_tensors(tmp_path: Path) -> None:
    large = torch.tensor([1e30, -1e30])  # its variance is beyond float32
    values = [large, torch.tensor(5.0), torch.zeros(0), torch.tensor([1.0, NAN]), torch.ones(9)]
    trial = saved(tmp_path, values)
    rule = make_rule(
        TensorVariance, trial, tensor_regex=REGEX, max_threshold=1e59, min_threshold=1e-9
    )
    assert fired(rule, trial) == [0, 4]
    assert rule.points == 2


@pytest.mark.parametrize("reductions", ["variance", "std"])
def test_the_variance_may_be_saved_as_a_reduction(tmp_path: Path, reductions: str) -> None:
    values = [torch.tensor([-3.0, 3.0] * 50), torch.tensor([-1.0, 1.0] * 50)]
    trial = saved(tmp_path, values, reductions=reductions)
    rule = make_rule(TensorVariance, trial, tensor_regex=REGEX, max_threshold=5.0)
    assert (fired(rule, trial), rule.points) == ([0], 2)


def test_a_reduction_that_gives_no_variance_is_reported(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(4)], reductions="mean")
    rule = make_rule(TensorVariance, trial, tensor_regex=REGEX, max_threshold=5.0)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert "was not saved whole or as variance or std" in rule.details


def test_lost_values_are_skipped(tmp_path: Path) -> None:
    trial = saved(tmp_path / "a", [torch.ones(2)] * 3)
    other = saved(tmp_path / "b", [torch.ones(2)] * 3)
    for file in (tmp_path / "a").rglob("*1_worker_0.tfevents"):
        file.write_bytes(b"")
    for rule, points in (
        (make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=2), 0),
        (make_rule(SimilarAcrossRuns, trial, other_trials=other.path, tensor_regex=REGEX), 2),
        (make_rule(SimilarAcrossRuns, other, other_trials=trial.path, tensor_regex=REGEX), 2),
        (make_rule(AllZero, trial, tensor_regex=REGEX), 2),
        (make_rule(TensorVariance, trial, tensor_regex=REGEX, min_threshold=-1.0), 2),
    ):
        assert [rule.invoke_at_step(step) for step in range(3)] == [False] * 3
        assert rule.points == points


def test_a_frozen_layer_is_unchanged(tmp_path: Path) -> None:
    steps, rule = judge(tmp_path, frozen(), "UnchangedTensor", {"collection_names": "weights"})
    assert steps == [2, 3]
    assert rule.details == (
        "1 of 3 tensors are the same at the last 3 saved steps: Sequential_0.weight"
    )


def test_weights_that_learn_change(tmp_path: Path) -> None:
    asked = {"collection_names": "weights"}
    steps, rule = judge(tmp_path, layers(8, 8), "UnchangedTensor", asked)
    assert (steps, rule.points, rule.details) == ([], 2 * 3, "")


def test_evaluation_steps_are_not_checked_for_unchanged_weights(tmp_path: Path) -> None:
    asked = request("UnchangedTensor", collection_names="weights", num_steps=2)
    trial = train(tmp_path, layers(8), [asked], steps=2, validation=vectors(64), validate_every=1)
    assert trial.tensor("Sequential_0.weight").steps(ModeKeys.EVAL) == [0, 1, 2, 3]
    assert fired(make(asked, trial), trial) == []


def test_tensors_saved_only_in_evaluation_are_compared_between_evaluations(tmp_path: Path) -> None:
    values = [torch.tensor([float(step)]) for step in (1, 1, 2, 2)]
    trial = saved(tmp_path, values, modes="eeee")
    rule = make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=2)
    assert fired(rule, trial) == [1, 3]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, []), ({"num_steps": 2}, [1, 3]), ({"num_steps": 2, "atol": 0.5}, [1, 2, 3])],
)
def test_num_steps_sets_for_how_many_steps_a_tensor_is_unchanged(
    tmp_path: Path, parameters: dict[str, float] | dict[str, int], expected: list[int]
) -> None:
    values = [torch.full((2,), value) for value in (1.0, 1.0, 1.3, 1.3)]
    trial = saved(tmp_path, values)
    assert (
        fired(make_rule(UnchangedTensor, trial, tensor_regex=REGEX, **parameters), trial)
        == expected
    )


def test_a_slow_drift_is_a_change(tmp_path: Path) -> None:
    values = [torch.tensor([1.0 + 0.04 * step]) for step in range(6)]
    trial = saved(tmp_path, values)
    rule = make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=4, atol=0.1, rtol=0.0)
    assert fired(rule, trial) == []
    rule = make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=3, atol=0.1, rtol=0.0)
    assert fired(rule, trial) == [2, 3, 4, 5]


def test_tensors_with_nan_or_of_another_shape(tmp_path: Path) -> None:
    values = [torch.tensor(v) for v in ([1.0, NAN], [1.0, NAN], [INF, INF], [INF, INF], [INF])]
    trial = saved(tmp_path, values)
    rule = make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=2)
    assert fired(rule, trial) == [3]
    rule = make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=2, equal_nan=True)
    assert fired(rule, trial) == [1, 3]


def test_reductions_show_changes(tmp_path: Path) -> None:
    values = [torch.full((4,), v) for v in (1.0, 1.0, 2.0)]
    trial = saved(tmp_path, values, reductions="mean,std")
    assert fired(make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=2), trial) == [1]


def test_too_few_steps_are_reported(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(2)] * 2)
    rule = make_rule(UnchangedTensor, trial, tensor_regex=REGEX)
    assert (fired(rule, trial), rule.points) == ([], 0)
    assert rule.details == "nothing to look at: input_images was saved at fewer than 3 steps"


def test_runs_with_the_same_seed_are_similar_and_others_are_not(tmp_path: Path) -> None:
    other = train(tmp_path / "other", layers(8), [request("SimilarAcrossRuns", other_trials="-")])
    asked = {"other_trials": other.path}
    steps, rule = judge(tmp_path / "same", layers(8), "SimilarAcrossRuns", asked)
    assert (steps, rule.points, rule.details) == ([], 4 * (1 + 2), "")  # loss and weights
    steps, rule = judge(tmp_path / "seed", layers(8, seed=1), "SimilarAcrossRuns", asked)
    assert steps == [0, 1, 2, 3]
    assert rule.details == (
        "3 of 3 tensors differ from the other run's: "
        "CrossEntropyLoss_output_0, Sequential_0.weight, Sequential_2.weight"
    )


def test_runs_are_compared_at_steps_of_the_same_mode(tmp_path: Path) -> None:
    values = [torch.tensor([float(v)]) for v in range(4)]
    base = saved(tmp_path / "a", [*values[:3], values[3]], modes="ttte")
    other = saved(tmp_path / "b", [values[0], values[3], values[1], values[2]], modes="tett")
    assert (
        fired(make_rule(SimilarAcrossRuns, base, other_trials=other.path, tensor_regex=REGEX), base)
        == []
    )
    rule = make_rule(
        SimilarAcrossRuns, base, other_trials=f"{other.path}, {base.path}", tensor_regex=REGEX
    )
    assert (fired(rule, base), rule.points) == ([], 8)


def test_another_shape_or_value_is_a_difference_and_nan_is_not(tmp_path: Path) -> None:
    base = saved(tmp_path / "a", [torch.ones(2), torch.ones(2), torch.tensor([NAN]), torch.ones(2)])
    other = saved(
        tmp_path / "b", [torch.ones(2), torch.ones(3), torch.tensor([NAN]), torch.zeros(2)]
    )
    assert fired(
        make_rule(SimilarAcrossRuns, base, other_trials=other.path, tensor_regex=REGEX), base
    ) == [1, 3]


def test_tensors_missing_from_the_other_run_are_reported(tmp_path: Path) -> None:
    base = train(tmp_path / "a", layers(8))
    other = saved(tmp_path / "b", [torch.ones(2)])
    rule = make_rule(SimilarAcrossRuns, base, other_trials=other.path)
    assert (fired(rule, base), rule.points) == ([], 0)
    assert "CrossEntropyLoss_output_0 at this step were not saved by the other" in rule.details


def test_another_run_may_still_be_running(tmp_path: Path) -> None:
    base = saved(tmp_path / "a", [torch.ones(2), torch.ones(2)])
    other = saved(tmp_path / "b", [torch.ones(2), torch.zeros(2)])
    folder = Path(other.path)
    (folder / "training_job_end.ts").unlink()
    (later,) = folder.glob("index/*/*1_worker_0.json")
    later.rename(folder / later.name)
    rule = make_rule(SimilarAcrossRuns, base, other_trials=other.path, tensor_regex=REGEX)
    assert not rule.invoke_at_step(0)
    assert not rule.invoke_at_step(1)
    assert rule.points == 1
    (folder / later.name).rename(later)
    assert rule.invoke_at_step(1)
    assert rule.points == 2


def test_another_run_may_be_in_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    base = saved(tmp_path / "a", [torch.ones(2), torch.ones(2)])
    other = saved(tmp_path / "b", [torch.ones(2), torch.zeros(2)])
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(
            Bucket="runs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        for file in Path(other.path).rglob("*.*"):
            s3.upload_file(str(file), "runs", f"b/{file.relative_to(other.path)}")
        with pytest.raises(RuleError, match=r"found no collections/ in 's3://runs/c'"):
            make_rule(SimilarAcrossRuns, base, other_trials="s3://runs/c")
        rule = make_rule(SimilarAcrossRuns, base, other_trials="s3://runs/b", tensor_regex=REGEX)
        assert (fired(rule, base), rule.points) == ([1], 2)


def test_a_missing_other_run_is_not_waited_for(tmp_path: Path) -> None:
    base = saved(tmp_path / "a", [torch.ones(1)])
    with pytest.raises(RuleError, match=r"'other_trials': expected another run's saved tensors"):
        make_rule(SimilarAcrossRuns, base, other_trials=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("rule", [AllZero, UnchangedTensor])
def test_a_selection_of_tensors_is_required(tmp_path: Path, rule: type[Any]) -> None:
    trial = saved(tmp_path, [torch.ones(1)])
    message = f"rule {rule.__name__}: one of the parameters 'collection_names' and 'tensor_regex'"
    for empty in (None, "", " , "):
        with pytest.raises(RuleError, match=message):
            make_rule(rule, trial, collection_names=empty)


def test_invalid_parameters_are_refused(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(1)])
    with pytest.raises(RuleError, match="one of the parameters 'max_threshold' and 'min_thresh"):
        make_rule(TensorVariance, trial, tensor_regex=REGEX)
    with pytest.raises(RuleError, match=r"min_threshold ≤ max_threshold, found 2\.0 and 1\.0"):
        make_rule(TensorVariance, trial, tensor_regex=REGEX, max_threshold=1.0, min_threshold=2.0)
    with pytest.raises(RuleError, match="'num_steps': expected at least 2, found 1"):
        make_rule(UnchangedTensor, trial, tensor_regex=REGEX, num_steps=1)


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        (AllZero, {}),
        (TensorVariance, {"max_threshold": 1.0}),
        (UnchangedTensor, {}),
    ],
)
def test_an_expression_that_matches_nothing_is_reported(
    tmp_path: Path, rule: type[Any], parameters: dict[str, float]
) -> None:
    trial = saved(tmp_path, [torch.ones(1)] * 3)
    made = make_rule(rule, trial, tensor_regex="nowhere{1,2},else", **parameters)
    assert (fired(made, trial), made.points) == ([], 0)
    assert made.details == (
        "nothing to look at: no tensor saved so far matches 'nowhere{1,2}' or matches 'else'; "
        "saved are Identity_input_0, Identity_output_0, input_images"
    )

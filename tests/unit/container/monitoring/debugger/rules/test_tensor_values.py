from pathlib import Path

import numpy as np
import pytest
import torch

from container.monitoring.debugger.rules import tensor_values
from container.monitoring.debugger.smdebug_fixes import ModeKeys
from tests.unit.container.monitoring.debugger.rules.runs import REGEX, saved

NAN, INF = float("nan"), float("inf")


def test_a_value_of_any_shape_and_type_is_read(tmp_path: Path) -> None:
    values = [torch.tensor(2.5), torch.arange(6).reshape(2, 3), torch.tensor([True, False])]
    trial = saved(tmp_path, values, modes="tet")
    for step, value in enumerate(values):
        found = tensor_values.value(trial, REGEX, step)
        assert (found.shape, found.tolist()) == (tuple(value.shape), value.tolist())
    assert tensor_values.value(trial, REGEX, 0, ModeKeys.EVAL).tolist() == values[1].tolist()
    assert tensor_values.value(trial, REGEX, 1, ModeKeys.TRAIN).tolist() == [1, 0]


def test_a_missing_value_is_none(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.ones(2)])
    assert tensor_values.value(trial, "no such tensor", 0) is None
    assert tensor_values.value(trial, REGEX, 7) is None
    assert tensor_values.value(trial, REGEX, 0, ModeKeys.EVAL) is None
    assert tensor_values.reductions(trial, "no such tensor", 0) == {}
    assert tensor_values.reduction(trial, REGEX, 7, "mean") is None
    assert tensor_values.content(trial, REGEX, 7) is None


@pytest.mark.parametrize("kept", [0, 10, 60])
def test_a_truncated_file_has_no_values(tmp_path: Path, kept: int) -> None:
    trial = saved(tmp_path, [torch.ones(1000)])
    (file,) = tmp_path.rglob("*.tfevents")
    file.write_bytes(file.read_bytes()[:kept])
    assert tensor_values.value(trial, REGEX, 0) is None
    assert tensor_values.content(trial, REGEX, 0) is None


def test_reductions_stand_in_for_the_value(tmp_path: Path) -> None:
    trial = saved(tmp_path, [torch.tensor([-1.0, 3.0])], reductions="mean,abs_mean,l2_norm")
    assert tensor_values.value(trial, REGEX, 0) is None
    assert tensor_values.reductions(trial, REGEX, 0) == {
        ("mean", False): 1.0,
        ("mean", True): 2.0,
        ("l2", False): pytest.approx(10**0.5),
    }
    assert tensor_values.reduction(trial, REGEX, 0, "mean", absolute=True) == 2.0
    assert tensor_values.reduction(trial, REGEX, 0, "max") is None
    assert tensor_values.content(trial, REGEX, 0).tolist() == pytest.approx([10**0.5, 1.0, 2.0])


def test_reductions_are_computed_in_float64() -> None:
    halves = np.full(10_000, 30_000, dtype=np.float16)  # their sum is beyond float16
    assert tensor_values.reduce(halves, "mean") == 30_000.0
    assert tensor_values.reduce(-halves, "sum", absolute=True) == pytest.approx(3e8)
    large = np.array([1e30, -1e30], dtype=np.float32)  # their squares are beyond float32
    assert tensor_values.reduce(large, "variance") == pytest.approx(1e60)
    assert tensor_values.reduce(large, "std") == pytest.approx(1e30)
    assert [tensor_values.reduce(np.array([3, -5]), what) for what in ("min", "max")] == [-5.0, 3.0]
    assert tensor_values.reduce(np.array(True), "mean") == 1.0


def test_nan_and_infinity_propagate_without_a_warning() -> None:
    assert tensor_values.reduce(np.array([1.0, NAN]), "mean") == pytest.approx(NAN, nan_ok=True)
    assert tensor_values.reduce(np.array([1.0, -INF]), "mean", absolute=True) == INF
    assert tensor_values.reduce(np.array([INF, -INF]), "std") == pytest.approx(NAN, nan_ok=True)


def test_an_empty_tensor_has_no_reductions() -> None:
    for what in ("mean", "min", "max", "sum", "std", "variance"):
        assert tensor_values.reduce(np.empty(0), what) is None

import atexit
from pathlib import Path
from typing import Any

import pytest
import torch
from smdebug.pytorch import Hook, SaveConfig

from container.monitoring.debugger.rules.base import DebugRule, shortened
from container.monitoring.debugger.rules.registry import make
from container.monitoring.debugger.rules.selection import Selection
from container.monitoring.debugger.smdebug_fixes import ModeKeys, open_trial
from tests.unit.container.monitoring.debugger.rules.runs import (
    REGEX,
    fired,
    layers,
    request,
    saved,
    vectors,
)


class Everything(DebugRule):
    """A rule that fires whenever `answer` is set."""

    answer = False

    def invoke_at_step(self, step: int) -> bool:
        found = self.names(step, Selection.read("Everything", tensor_regex=REGEX))
        self.points += len(found)
        return self.fire(f"because\nof {step}") if self.answer else False


@pytest.fixture
def trial(tmp_path: Path) -> Any:
    return saved(tmp_path, [torch.full((2,), float(step)) for step in range(6)], modes="teetet")


def test_the_reason_is_one_line_about_the_last_time_it_fired(trial: Any) -> None:
    rule = Everything(trial)
    assert (rule.points, rule.details) == (0, "")
    rule.answer = True
    assert rule.invoke_at_step(0)
    assert rule.invoke_at_step(1)
    rule.answer = False
    assert not rule.invoke_at_step(2)
    assert (rule.points, rule.details) == (3, "because of 1")


def test_missing_tensors_are_reported_until_some_are_seen(trial: Any) -> None:
    rule = Everything(trial)
    assert rule.names(0, Selection.read("R", tensor_regex="nowhere")) == []
    assert rule.details == (
        "nothing to look at: no tensor saved so far matches 'nowhere'; saved are "
        "Identity_input_0, Identity_output_0, input_images"
    )
    rule.invoke_at_step(1)
    assert (rule.points, rule.details) == (1, "")


def test_a_rule_finds_the_mode_and_the_earlier_steps_of_a_step(trial: Any) -> None:
    rule = Everything(trial)
    assert [rule.mode_of(step) for step in (0, 1)] == [ModeKeys.TRAIN, ModeKeys.EVAL]
    assert [rule.in_training(step) for step in range(6)] == [True, False, False, True, False, True]
    assert [rule.mode_step(step) for step in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [rule.earlier_steps(REGEX, step) for step in range(6)] == [
        [], [], [0], [0], [0, 1], [0, 1],
    ]  # fmt: skip
    (before,) = rule.earlier_steps(REGEX, 3)
    assert rule.value(REGEX, before, rule.mode_of(3)).tolist() == [0.0, 0.0]


def test_a_run_of_smdebugs_own_hook_without_modes(tmp_path: Path) -> None:
    hook = Hook(str(tmp_path / "own"), save_config=SaveConfig(save_interval=1), save_all=True)
    network, (inputs, labels) = layers(8), vectors()
    network[0].requires_grad_(False)
    hook.register_module(network)
    optimizer = torch.optim.SGD(network[2].parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    hook.close()
    atexit.unregister(hook._cleanup)
    trial = open_trial(tmp_path / "own")
    rule = Everything(trial)
    assert [rule.mode_of(step) for step in trial.steps()] == [ModeKeys.GLOBAL] * 4
    assert rule.earlier_steps("Sequential_0.weight", 3) == [0, 1, 2]
    unchanged = make(request("UnchangedTensor", collection_names="weights"), trial)
    assert fired(unchanged, trial) == [2, 3]
    assert unchanged.details.endswith(": Sequential_0.weight")
    ratio = make(request("WeightUpdateRatio"), trial)
    assert (fired(ratio, trial), ratio.points) == ([], 3)


def test_long_lists_of_names_are_truncated() -> None:
    assert shortened(["a", "b", "c"]) == "a, b, c"
    assert shortened(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"

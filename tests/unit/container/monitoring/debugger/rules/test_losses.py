"""Rules about losses, on real training with and without the problem each looks for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from smdebug.core.modes import ModeKeys
from torch import Tensor, nn

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.rules.losses import LossNotDecreasing
from container.monitoring.debugger.rules.overfitting import Overfit, Overtraining
from container.monitoring.debugger.rules.registry import make
from container.monitoring.debugger.smdebug_fixes import open_trial
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleError, parse_rules
from tests.unit.container.monitoring.debugger.rules.runs import make_rule
from tests.unit.container.monitoring.debugger.training import (
    Data,
    random_data,
    settings_for,
    tiny_network,
    train_tiny,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def untrained() -> nn.Sequential:
    torch.manual_seed(0)
    return tiny_network()


def train(folder: Path, steps: int, **options: Any) -> Any:
    """Train on all the data at once, so that only learning changes the loss."""
    data = options.pop("data", random_data(32))
    settings = settings_for(
        folder, collections=["losses"], save_interval=options.pop("save_interval", 1)
    )
    options = {"batch_size": 32} | options
    return train_tiny(untrained(), data, steps, settings, **options)


def with_random_labels(data: Data) -> Data:
    generator = torch.Generator().manual_seed(3)
    return data[0], torch.randint(0, 4, data[1].shape, generator=generator)


def evaluate(rule: Any, trial: Any) -> list[int]:
    """Return the steps at which the rule fires, -1 for the end."""
    fired = [step for step in trial.steps() if rule.invoke_at_step(step)]
    return fired + ([-1] if hasattr(rule, "invoke_at_end") and rule.invoke_at_end() else [])


def made(name: str, trial: Any, **overrides: Any) -> Any:
    (request,) = parse_rules(
        DEBUG_RULES, [name], {f"{name}_{key}": v for key, v in overrides.items()}
    )
    return make(request, trial)


def test_a_learning_rate_of_zero_fires(tmp_path: Path) -> None:
    trial = train(tmp_path, 25, learning_rate=0.0)
    rule = made("LossNotDecreasing", trial)
    assert evaluate(rule, trial) == [10, 20]
    assert rule.points == 2
    assert rule.details.startswith("CrossEntropyLoss_output_0 fell by 0 % from")


def test_a_falling_loss_does_not_fire(tmp_path: Path) -> None:
    trial = train(tmp_path, 25, learning_rate=0.05)
    rule = made("LossNotDecreasing", trial)
    assert evaluate(rule, trial) == []
    assert rule.points == 2


def test_a_loss_that_grows_fires_beyond_the_accepted_rise(tmp_path: Path) -> None:
    network = untrained()

    def exaggerate(
        _step: int,
    ) -> None:  # a wrong prediction costs more, the more confident the network is
        cast(Tensor, network[-1].weight).data *= 1.2

    settings = settings_for(tmp_path, collections=["losses"])
    trial = train_tiny(
        network, random_data(32), 12, settings, batch_size=32, learning_rate=0.0,
        before_step=exaggerate,
    )  # fmt: skip
    rule = made("LossNotDecreasing", trial)
    assert evaluate(rule, trial) == [10]
    assert "rose by" in rule.details
    accepting = made("LossNotDecreasing", trial, increase_threshold_percent=1000)
    assert evaluate(accepting, trial) == []


def test_a_loss_is_compared_with_the_last_step_saved_at_least_num_steps_earlier(
    tmp_path: Path,
) -> None:
    trial = train(tmp_path, 36, learning_rate=0.0, save_interval=3)
    assert trial.steps()[:3] == [0, 3, 6]
    rule = make_rule(LossNotDecreasing, trial)
    assert evaluate(rule, trial) == [12, 24]
    assert "at step 12 to" in rule.details


@pytest.mark.parametrize(("mode", "fired"), [("TRAIN", [20]), ("EVAL", [-1]), (None, [-1])])
def test_each_mode_counts_its_own_steps(tmp_path: Path, mode: str | None, fired: list[int]) -> None:
    held_out = random_data(32, seed=1)
    trial = train(tmp_path, 11, learning_rate=0.0, validation=held_out, validate_every=1)
    rule = make_rule(LossNotDecreasing, trial, mode=mode)
    # Training and evaluation alternate: the eleventh of a mode is the 21st or the last of all.
    assert evaluate(rule, trial) == fired
    assert rule.points == 1


def test_a_loss_is_compared_with_one_of_the_same_mode(tmp_path: Path) -> None:
    """Without that, a validation loss above the training loss would look like a rise."""
    held_out = with_random_labels(random_data(32, seed=1))
    trial = train(tmp_path, 12, learning_rate=0.0, validation=held_out, validate_every=1)
    rule = make_rule(LossNotDecreasing, trial, diff_percent=0.0)
    assert evaluate(rule, trial) == []
    assert rule.points == 4


def test_the_batches_of_one_evaluation_are_not_compared(tmp_path: Path) -> None:
    inputs, labels = random_data(48, seed=1)
    inputs[32:] *= 3  # a batch that costs more than the others
    trial = train(
        tmp_path, 8, learning_rate=0.0, validation=(inputs, labels), validate_every=1,
        batch_size=16,
    )  # fmt: skip
    rule = make_rule(LossNotDecreasing, trial, mode="EVAL", num_steps=1, diff_percent=0.0)
    assert evaluate(rule, trial) == []
    assert rule.points == 7


def test_missing_losses_are_not_an_error(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, collections=["weights"])
    hook = TensorHook(settings, untrained())
    for _ in range(3):
        hook.step("train")
        hook.step("eval")
    hook.close()
    trial = open_trial(settings.path)
    assert trial.steps()
    for name in ("LossNotDecreasing", "Overfit", "Overtraining"):
        rule = made(name, trial)
        assert evaluate(rule, trial) == []
        assert rule.points == 0
        assert "losses" in rule.details, name


def test_a_tensor_of_many_numbers_is_not_a_loss(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, collections=["biases"])
    trial = train_tiny(untrained(), random_data(32), 2, settings, batch_size=32)
    rule = make_rule(LossNotDecreasing, trial, tensor_regex="bias", use_losses_collection=False)
    assert evaluate(rule, trial) == []
    assert "holds 4 numbers" in rule.details


def test_invalid_parameters_are_refused(tmp_path: Path) -> None:
    trial = train(tmp_path, 1)
    with pytest.raises(RuleError, match=r"'mode': expected EVAL, TRAIN or GLOBAL, found 'PREDICT'"):
        make_rule(LossNotDecreasing, trial, mode="PREDICT")
    with pytest.raises(RuleError, match="collection_names"):
        make_rule(LossNotDecreasing, trial, use_losses_collection=False)


def test_memorising_random_labels_is_overfitting(tmp_path: Path) -> None:
    learnt = with_random_labels(random_data(32))
    held_out = with_random_labels(random_data(64))
    held_out = held_out[0][32:], held_out[1][32:]
    trial = train(
        tmp_path, 60, data=learnt, learning_rate=0.1, momentum=0.9, validation=held_out,
        validate_every=10,
    )  # fmt: skip
    rule = made("Overfit", trial)
    fired = evaluate(rule, trial)
    assert fired
    assert fired[-1] == -1, "the last evaluation has no training after it"
    assert rule.points == 6
    assert "more than 10 %" in rule.details


def test_learning_that_generalises_is_not_overfitting(tmp_path: Path) -> None:
    data = random_data(64)
    trial = train(
        tmp_path, 30, data=(data[0][:32], data[1][:32]), validation=(data[0][32:], data[1][32:]),
        learning_rate=0.01, validate_every=10,
    )  # fmt: skip
    rule = made("Overfit", trial)
    assert evaluate(rule, trial) == []
    assert rule.points == 3


def test_overfitting_needs_patience_and_a_first_step(tmp_path: Path) -> None:
    held_out = with_random_labels(random_data(32))
    trial = train(tmp_path, 20, validation=held_out, validate_every=4, learning_rate=0.05)
    every = evaluate(make_rule(Overfit, trial), trial)
    assert len(every) > 2
    assert evaluate(make_rule(Overfit, trial, patience=2), trial) == every[1:]
    late = make_rule(Overfit, trial, start_step=every[0] + 1)
    assert len(evaluate(late, trial)) == len(every) - 1
    assert evaluate(make_rule(Overfit, trial, ratio_threshold=1e9), trial) == []


def test_modes_saved_at_different_intervals_are_compared(tmp_path: Path) -> None:
    trial = train(
        tmp_path, 40, validation=with_random_labels(random_data(32)), validate_every=4,
        save_interval=3, momentum=0.9,
    )  # fmt: skip
    rule = make_rule(Overfit, trial)
    assert evaluate(rule, trial)
    assert len(trial.steps(ModeKeys.TRAIN)) == 14
    assert rule.points == 10


def test_without_evaluations_there_is_nothing_to_compare(tmp_path: Path) -> None:
    trial = train(tmp_path, 3)
    rule = make_rule(Overfit, trial)
    assert evaluate(rule, trial) == []
    assert "both training and evaluation" in rule.details


def test_training_after_the_validation_loss_stops_falling_is_overtraining(tmp_path: Path) -> None:
    data = random_data(64)
    trial = train(
        tmp_path, 60, data=(data[0][:32], data[1][:32]), validation=(data[0][32:], data[1][32:]),
        learning_rate=0.1, momentum=0.5, validate_every=2,
    )  # fmt: skip
    rule = made("Overtraining", trial)
    fired = evaluate(rule, trial)
    assert fired
    assert min(step for step in fired if step >= 0) > 30, "ten evaluations, each after two steps"
    assert "saved steps and the validation loss not below" in rule.details


def test_a_falling_validation_loss_is_not_overtraining(tmp_path: Path) -> None:
    data = random_data(64)
    trial = train(
        tmp_path, 40, data=(data[0][:32], data[1][:32]), validation=(data[0][32:], data[1][32:]),
        learning_rate=0.003, validate_every=2,
    )  # fmt: skip
    rule = made("Overtraining", trial)
    assert evaluate(rule, trial) == []
    assert rule.points == 60


def test_without_evaluations_the_training_loss_decides(tmp_path: Path) -> None:
    trial = train(tmp_path, 8, learning_rate=0.0)
    assert evaluate(make_rule(Overtraining, trial), trial) == [-1]


def test_evaluations_are_distinguished_without_saved_training_between_them(
    tmp_path: Path,
) -> None:
    data = random_data(64)
    trial = train(
        tmp_path, 40, data=(data[0][:32], data[1][:32]), validation=(data[0][32:], data[1][32:]),
        learning_rate=0.01, validate_every=4, save_interval=40,
    )  # fmt: skip
    assert trial.steps(ModeKeys.TRAIN) == [0]
    rule = make_rule(Overfit, trial)
    assert evaluate(rule, trial) == []
    assert rule.points == 10

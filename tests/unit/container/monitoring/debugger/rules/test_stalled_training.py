"""The rule StalledTraining, by the clock and by the times at which steps were saved."""

import time
from pathlib import Path

import pytest
import torch

from container.monitoring.debugger.rules.stalled_training import StalledTrainingRule
from container.monitoring.debugger.trial import GrowingTrial
from tests.unit.container.monitoring.debugger.rules.runs import make_rule
from tests.unit.container.monitoring.debugger.training import random_data, settings_for, train_tiny


def trained(folder: Path, pause_before: int | None) -> GrowingTrial:
    def pause(step: int) -> None:
        if step == pause_before:
            time.sleep(0.6)

    settings = settings_for(folder, collections=["losses"])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    train_tiny(network, random_data(16), 6, settings, before_step=pause)
    trial = GrowingTrial(settings.path)
    trial.finish()
    return trial


def test_a_pause_in_training_fires(tmp_path: Path) -> None:
    trial = trained(tmp_path, pause_before=4)
    rule = make_rule(StalledTrainingRule, trial, threshold=0.5)
    # A step's files are closed as the next one begins, so the pause is before step 3's.
    assert 3 in [step for step in trial.steps() if rule.invoke_at_step(step)]
    assert rule.details.startswith("nothing was saved for ")
    assert rule.points == 6


def test_training_without_a_pause_does_not_fire(tmp_path: Path) -> None:
    trial = trained(tmp_path, pause_before=None)
    rule = make_rule(StalledTrainingRule, trial, threshold=60.0)
    assert not any(rule.invoke_at_step(step) for step in trial.steps())
    assert not rule.invoke_at_time()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def trial(tmp_path: Path) -> GrowingTrial:
    return trained(tmp_path, pause_before=None)


def test_the_rule_fires_while_no_step_is_saved(trial: GrowingTrial) -> None:
    clock = Clock()
    rule = make_rule(StalledTrainingRule, trial, threshold=30.0, clock=clock)
    clock.now = 30.0
    assert not rule.invoke_at_time()
    clock.now = 30.5
    assert rule.invoke_at_time()
    assert rule.details == "nothing was saved for 30.5 s, longer than 30 s"
    clock.now = 90.0
    assert not rule.invoke_at_time(), "one standstill fires once"
    assert not rule.invoke_at_step(0)
    clock.now = 121.0
    assert rule.invoke_at_time(), "the next one fires again"


def test_each_step_restarts_the_timer(trial: GrowingTrial) -> None:
    clock = Clock()
    rule = make_rule(StalledTrainingRule, trial, threshold=30.0, clock=clock)
    for step in trial.steps():
        clock.now += 20
        assert not rule.invoke_at_time()
        assert not rule.invoke_at_step(step)


def test_sagemakers_parameters_for_stopping_jobs_are_accepted(trial: GrowingTrial) -> None:
    rule = make_rule(
        StalledTrainingRule, trial, stop_training_on_fire=True, training_job_name_prefix="a"
    )
    assert rule.stop_training_on_fire

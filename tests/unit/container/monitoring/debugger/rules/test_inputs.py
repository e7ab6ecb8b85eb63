"""The rule NotNormalizedData, on normalised and on other images."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.rules.inputs import CheckInputImages
from container.monitoring.debugger.rules.registry import make
from container.monitoring.debugger.smdebug_fixes import open_trial
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import parse_rules
from tests.unit.container.monitoring.debugger.rules.runs import make_rule
from tests.unit.container.monitoring.debugger.training import (
    Data,
    random_data,
    settings_for,
    train_tiny,
)


def pixels() -> Data:
    """Return images as decoded from files: 0 to 255."""
    inputs, labels = random_data(128)
    return (inputs * 40 + 120).round().clamp(0, 255), labels


def normalised(data: Data) -> Data:
    inputs = data[0] / 255
    mean, deviation = inputs.mean((0, 2, 3), keepdim=True), inputs.std((0, 2, 3), keepdim=True)
    return (inputs - mean) / deviation, data[1]


def train(folder: Path, data: Data, steps: int = 33) -> Any:
    settings = settings_for(folder, collections=["inputs"])
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    return train_tiny(network, data, steps, settings, learning_rate=1e-6)


def saved(folder: Path, images: Tensor | None) -> Any:
    """Return a trial with these images, or without images."""
    settings = settings_for(folder, collections=["inputs", "labels"])
    hook = TensorHook(settings, nn.Linear(1, 1))
    hook.step("train")
    hook.record("labels", torch.zeros(4))
    if images is not None:
        hook.record("inputs", images)
    hook.close()
    return open_trial(settings.path)


def fired(rule: Any, trial: Any) -> list[int]:
    return [step for step in trial.steps() if rule.invoke_at_step(step)]


def made(trial: Any) -> Any:
    return make(parse_rules(DEBUG_RULES, ["CheckInputImages"])[0], trial)


def test_pixels_from_0_to_255_are_not_normalised(tmp_path: Path) -> None:
    trial = train(tmp_path, pixels())
    rule = made(trial)
    assert fired(rule, trial) == [31, 32], "after 500 images of 16 a step"
    assert rule.details.startswith("the mean of channel ")
    assert rule.points == 33 * 16


def test_normalised_images_do_not_fire(tmp_path: Path) -> None:
    trial = train(tmp_path, normalised(pixels()))
    rule = made(trial)
    assert fired(rule, trial) == []
    assert rule.points == 33 * 16
    assert rule.details == ""


def test_one_channel_is_enough(tmp_path: Path) -> None:
    inputs, labels = normalised(pixels())
    inputs[:, 2] += 0.3
    trial = train(tmp_path, (inputs, labels), steps=8)
    rule = make_rule(CheckInputImages, trial, threshold_samples=100)
    assert fired(rule, trial) == [6, 7]
    assert "channel 2 of 128 images" in rule.details


def test_the_channels_may_be_the_last_dimension(tmp_path: Path) -> None:
    inputs, _ = normalised(pixels())
    inputs[:, 2] += 0.3
    trial = saved(tmp_path, inputs.permute(0, 2, 3, 1))
    rule = make_rule(CheckInputImages, trial, threshold_samples=100, channel=-1)
    assert fired(rule, trial) == [0]
    assert "channel 2 of 128 images is 0.3," in rule.details


def test_too_few_images_are_not_judged_and_are_reported(tmp_path: Path) -> None:
    trial = train(tmp_path, pixels(), steps=2)
    rule = made(trial)
    assert fired(rule, trial) == []
    assert rule.details == "not judged: 32 images so far, 500 needed"


def test_a_missing_dimension_is_not_an_error(tmp_path: Path) -> None:
    trial = train(tmp_path, pixels(), steps=1)
    rule = make_rule(CheckInputImages, trial, channel=7)
    assert fired(rule, trial) == []
    assert "without dimension 7" in rule.details


def test_a_saved_mean_replaces_the_images(tmp_path: Path) -> None:
    file = tmp_path / "input" / "config" / "debughookconfig.json"
    file.parent.mkdir(parents=True)
    kept = {"include_regex": "images", "reductions": "mean"}
    configurations = [{"CollectionName": "inputs", "CollectionParameters": kept}]
    file.write_text(json.dumps({"CollectionConfigurations": configurations}))
    trial = train(tmp_path, pixels(), steps=3)
    rule = make_rule(CheckInputImages, trial, threshold_samples=3)
    assert fired(rule, trial) == [2]
    assert "the mean of 3 images is 1" in rule.details


def test_missing_images_are_not_an_error(tmp_path: Path) -> None:
    trial = saved(tmp_path, None)
    rule = made(trial)
    assert fired(rule, trial) == []
    assert "no tensor" in rule.details

"""Rules about labels and predictions, on real training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.rules.predictions import ClassImbalance, Confusion
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

KEPT = ("labels", "predictions")


def network(classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))


def drawn(data: Data, counts: Sequence[int]) -> Data:
    """Return this many images of each class, shuffled."""
    places = [torch.nonzero(data[1] == label)[:count, 0] for label, count in enumerate(counts)]
    chosen = torch.cat(places)
    chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
    return data[0][chosen], data[1][chosen]


def train(folder: Path, data: Data, steps: int = 36, **options: Any) -> Any:
    settings = settings_for(folder, collections=KEPT)
    options = {"learning_rate": 0.02} | options
    return train_tiny(options.pop("network", None) or network(), data, steps, settings, **options)


def saved(folder: Path, batches: Sequence[tuple[Tensor, Tensor]]) -> Any:
    """Return a trial with these labels and predictions."""
    settings = settings_for(folder, collections=KEPT)
    hook = TensorHook(settings, network())
    for labels, predictions in batches:
        hook.step("train")
        hook.record("labels", labels)
        hook.record("predictions", predictions)
    hook.close()
    return open_trial(settings.path)


def fired(rule: Any, trial: Any) -> list[int]:
    return [step for step in trial.steps() if rule.invoke_at_step(step)]


def made(name: str, trial: Any, **overrides: Any) -> Any:
    (request,) = parse_rules(
        DEBUG_RULES, [name], {f"{name}_{key}": v for key, v in overrides.items()}
    )
    return make(request, trial)


def test_a_class_with_a_twentieth_of_the_images_is_rare(tmp_path: Path) -> None:
    trial = train(tmp_path, drawn(random_data(800), [170, 180, 170, 9]))
    rule = made("ClassImbalance", trial)
    assert fired(rule, trial) == [31], "after 500 labels of 16 a step"
    assert "class 3 has 9: more than 10 to 1" in rule.details
    assert rule.points == 36 * 16 - 15  # the last batch of a round holds one image


def test_classes_of_the_same_size_are_balanced(tmp_path: Path) -> None:
    trial = train(tmp_path, drawn(random_data(640), [160, 160, 160, 160]))
    rule = made("ClassImbalance", trial)
    assert fired(rule, trial) == []
    assert rule.points == 36 * 16
    assert rule.details == ""


def test_a_rare_class_that_is_never_learnt(tmp_path: Path) -> None:
    inputs, labels = drawn(random_data(400), [100, 100, 100, 20])
    rare = labels == 3
    inputs[rare] = inputs[labels == 0][: int(rare.sum())]  # indistinguishable from class 0
    trial = train(tmp_path, (inputs, labels), learning_rate=0.05)
    rule = made("ClassImbalance", trial, samples=250)
    assert fired(rule, trial)
    assert rule.details.startswith("mostly mispredicted: class 3 (")


def test_a_network_that_is_always_wrong_has_not_learnt_yet(tmp_path: Path) -> None:
    trial = train(tmp_path, random_data(160), learning_rate=0.0)
    assert fired(make_rule(ClassImbalance, trial, samples=100), trial) == []


def test_too_few_labels_are_not_judged_and_are_reported(tmp_path: Path) -> None:
    trial = train(tmp_path, drawn(random_data(200), [40, 2, 2, 2]), steps=4)
    rule = made("ClassImbalance", trial)
    assert fired(rule, trial) == []
    assert rule.details == "not judged: 62 labels so far, 500 needed for 4 classes"


def test_more_classes_need_more_labels(tmp_path: Path) -> None:
    data = random_data(80, classes=40)
    trial = train(tmp_path, data, steps=40, network=network(40))
    rule = made("ClassImbalance", trial)
    assert fired(rule, trial) == []
    assert "640 labels so far, 2000 needed for 40 classes" in rule.details


def test_evaluation_labels_are_not_counted_as_training_labels(tmp_path: Path) -> None:
    data = random_data(64)
    by_class = data[0][data[1].argsort()], data[1].sort().values
    trial = train(tmp_path, data, steps=12, validation=by_class, validate_every=2)
    rule = make_rule(ClassImbalance, trial, samples=30, threshold_misprediction=1.0)
    assert fired(rule, trial) == []
    assert rule.points == 12 * 16


def test_predictions_may_be_classes_or_probabilities(tmp_path: Path) -> None:
    labels = torch.tensor([0] * 30 + [1] * 2)
    wrong = torch.zeros(32)
    trial = saved(tmp_path, [(labels, wrong), (labels, nn.functional.one_hot(wrong.long(), 2))])
    assert fired(make_rule(ClassImbalance, trial, samples=32, threshold_imbalance=100), trial) == [
        0,
        1,
    ]


def test_probabilities_of_one_image_need_argmax(tmp_path: Path) -> None:
    trial = saved(tmp_path, [(torch.tensor([2]), torch.tensor([0.1, 0.2, 0.7]))])
    without, with_argmax = (
        make_rule(ClassImbalance, trial),
        make_rule(ClassImbalance, trial, argmax=True),
    )
    assert fired(without, trial) == fired(with_argmax, trial) == []
    assert (without.points, with_argmax.points) == (0, 1)
    assert "1 labels and 3 predictions" in without.details


@pytest.mark.parametrize("kind", [ClassImbalance, Confusion])
def test_missing_tensors_are_not_an_error(tmp_path: Path, kind: Any) -> None:
    settings = settings_for(tmp_path, collections=["biases"])
    trial = train_tiny(network(), random_data(16), 2, settings)
    rule = make_rule(kind, trial)
    assert fired(rule, trial) == []
    assert rule.points == 0
    assert "labels" in rule.details


def test_an_untrained_network_confuses_classes(tmp_path: Path) -> None:
    trial = train(tmp_path, random_data(160), learning_rate=0.0)
    rule = made("Confusion", trial)
    assert fired(rule, trial)
    assert "on the diagonal below 0.9: class" in rule.details
    assert "off it above 0.1: class" in rule.details


def test_a_trained_network_does_not_confuse_classes(tmp_path: Path) -> None:
    data, learner = random_data(160), network()
    train(tmp_path / "before", data, network=learner, learning_rate=0.02, steps=60)
    trial = train(tmp_path / "after", data, network=learner, validation=data)
    rule = made("Confusion", trial)
    assert fired(rule, trial) == []
    assert rule.details == ""
    assert rule.points > 36 * 16


def test_training_and_evaluation_have_separate_matrices(tmp_path: Path) -> None:
    """Each mode alone has too few predictions; only together would there be enough."""
    data = random_data(32)
    trial = train(tmp_path, data, steps=2, validation=data, learning_rate=0.0)
    rule = make_rule(Confusion, trial)
    assert fired(rule, trial) == []
    assert rule.details == "not judged: class 0 was seen 8 times, 10 needed"


def test_a_class_that_is_never_predicted_is_weak(tmp_path: Path) -> None:
    labels = torch.arange(20) % 2
    trial = saved(tmp_path, [(labels, torch.zeros(20, dtype=torch.int64))])
    rule = make_rule(Confusion, trial)
    assert fired(rule, trial) == [0]
    assert "class 1 (never predicted), class 0 (0.50)" in rule.details
    assert "class 1 among those predicted 0 (0.50)" in rule.details


def test_the_number_of_classes_may_be_given(tmp_path: Path) -> None:
    labels = torch.cat([torch.arange(20) % 2, torch.tensor([-100, 7])])
    trial = saved(tmp_path, [(labels, labels.clamp(0, 1))])
    assert fired(make_rule(Confusion, trial), trial) == []
    rule = make_rule(Confusion, trial, category_no=2)
    assert fired(rule, trial) == []
    assert rule.details == "", "labels outside of the two are left out"

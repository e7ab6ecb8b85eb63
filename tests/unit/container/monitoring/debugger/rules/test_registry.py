import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from smdebug.rules import invoke_rule
from smdebug.rules.action import action
from smdebug.rules.rule import Rule
from torch import nn

from container.monitoring.debugger.rules.gradients import ExplodingTensor
from container.monitoring.debugger.rules.registry import LOCATIONS, make
from container.monitoring.debugger.smdebug_fixes import NoMoreData, RuleEvaluationConditionMet
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleError, RuleRequest
from tests.unit.container.monitoring.debugger.rules.runs import (
    layers,
    make_rule,
    request,
    saved,
    train,
)

REQUIRED: dict[str, dict[str, Any]] = {
    "AllZero": {"tensor_regex": "weight"},
    "TensorVariance": {"tensor_regex": "weight", "max_threshold": 100},
    "UnchangedTensor": {"tensor_regex": "weight"},
}


def location(rule: str) -> type:
    module, _, name = LOCATIONS[rule].partition(":")
    return getattr(importlib.import_module(module), name)


def test_every_rule_of_the_catalogue_has_a_class() -> None:
    assert set(LOCATIONS) == set(DEBUG_RULES)


@pytest.mark.parametrize("rule", sorted(LOCATIONS))
def test_a_rule_has_the_parameters_of_the_catalogue_and_no_defaults_of_its_own(rule: str) -> None:
    found = location(rule)
    assert issubclass(found, Rule)
    parameters = list(inspect.signature(found).parameters.values())
    assert parameters[0].name == "base_trial"
    taken = {parameter.name: parameter for parameter in parameters[1:]}
    declared = DEBUG_RULES[rule].parameters
    assert set(declared) <= set(taken)
    for name in taken.keys() - declared.keys():
        assert taken[name].default is not inspect.Parameter.empty
    for name in declared:
        assert taken[name].default is inspect.Parameter.empty


@pytest.mark.parametrize("rule", sorted(LOCATIONS))
def test_a_rule_does_not_fire_at_a_healthy_step(tmp_path: Path, rule: str) -> None:
    trial = train(tmp_path, layers(16), [request("PoorWeightInitialization")], steps=1)
    other: dict[str, Any] = {"other_trials": trial.path}
    given = other if rule == "SimilarAcrossRuns" else REQUIRED.get(rule, {})
    made = make(request(rule, **given), trial)
    assert type(made).__name__ == rule
    assert made.invoke_at_step(0) is False


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"rule 'Overfitting' is not one of AllZero, "):
        make(RuleRequest("Overfitting", "mine"), None)


@pytest.fixture
def exploding(tmp_path: Path) -> Any:
    values = [torch.ones(2), torch.tensor([float("nan")]), torch.ones(2), torch.tensor([1e39])]
    return saved(tmp_path, values)


def test_smdebugs_driver_raises_when_a_rule_fires(exploding: Any) -> None:
    rule = make(request("ExplodingTensor"), exploding)
    with pytest.raises(RuleEvaluationConditionMet) as met:
        invoke_rule(rule, raise_eval_cond=True)
    assert (met.value.rule_name, met.value.step) == ("ExplodingTensor", 1)


def test_smdebugs_driver_continues_to_the_end_of_the_data(exploding: Any) -> None:
    rule = make(request("ExplodingTensor"), exploding)
    with pytest.raises(NoMoreData):
        invoke_rule(rule)
    assert rule.details.startswith("Identity_input_0: 1 infinite of 1 values")
    assert rule.points == 4 * 3


def test_smdebugs_actions_are_carried_out(exploding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class Stop:
        def __init__(self, rule: str, prefix: str) -> None:
            self.what = (rule, prefix)

        def invoke(self, _message: str) -> None:
            done.append(self.what)

    monkeypatch.setattr(action, "StopTrainingAction", Stop)
    asked = json.dumps({"name": "stoptraining", "training_job_prefix": "job"})
    with pytest.raises(NoMoreData):
        invoke_rule(make_rule(ExplodingTensor, exploding, action_str=asked))
    assert done == [("ExplodingTensor", "job")] * 2


def test_a_rule_accepts_steps_without_its_tensors(tmp_path: Path) -> None:
    trial = train(tmp_path, nn.Sequential(*layers(8)), steps=2)  # only the loss
    other: dict[str, Any] = {"other_trials": trial.path}
    for rule in LOCATIONS:
        given = other if rule == "SimilarAcrossRuns" else REQUIRED.get(rule, {})
        made = make(request(rule, **given), trial)
        assert [made.invoke_at_step(step) for step in (0, 1)] == [False, False]


def test_listing_the_rules_imports_neither_torch_nor_smdebug() -> None:
    code = (
        "import container.monitoring.debugger.rules.registry, sys\n"
        "print({'torch', 'smdebug'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"

"""The evaluation of rules, run in the test's process instead of a separate one."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from container.monitoring.debugger import trial as trials
from container.monitoring.debugger.evaluator import ENDED, STOP, EvaluatorConfig, RuleEvaluator
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleRequest, parse_rules
from tests.unit.container.monitoring.debugger.training import random_data, settings_for, train_tiny

OWN = """
from smdebug.exceptions import RuleEvaluationConditionMet, TensorUnavailable
from smdebug.rules.rule import Rule


class Watching(Rule):
    def __init__(self, base_trial, limit="3"):
        super().__init__(base_trial)
        self.limit = int(limit)


class Fires(Watching):
    def invoke_at_step(self, step):
        return step >= self.limit


class Raises(Watching):
    def invoke_at_step(self, step):
        if step == self.limit:
            return {}["what is not there"]


class Missing(Watching):
    def set_required_tensors(self, step):
        if step % 2:
            self.req_tensors.add("no such tensor", [step])
        else:
            self.req_tensors.add("CrossEntropyLoss_output_0", [step])

    def invoke_at_step(self, step):
        (name,) = self.req_tensors.get_names()
        return self.base_trial.tensor(name).value(step) > 0


class Gradients(Watching):
    # As in SageMaker's guide: by collection, with a reduction, at any step.
    def invoke_at_step(self, step):
        for name in self.base_trial.tensor_names(collection="gradients"):
            tensor = self.base_trial.tensor(name)
            if tensor.reduction_value(step, "mean", abs=True) > 1e-9:
                return True
        return False


class Future(Watching):
    def set_required_tensors(self, step):
        self.req_tensors.add("CrossEntropyLoss_output_0", [step + 1000])

    def invoke_at_step(self, step):
        return True


class Ends(Watching):
    def invoke_at_step(self, step):
        raise RuleEvaluationConditionMet("Ends", step, end_of_rule=True)


class Stopping(Watching):
    stop_training_on_fire = True

    def invoke_at_step(self, step):
        return step >= self.limit
"""


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    """Six steps of training, all saved."""
    settings = settings_for(tmp_path, collections=["losses", "gradients"])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    train_tiny(network, random_data(16), 6, settings)
    return settings.path


@pytest.fixture(autouse=True)
def documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make smdebug accept rules written as in SageMaker's guide, as the evaluator does."""
    from smdebug.rules.rule import Rule

    monkeypatch.setattr(Rule.__init__, "__defaults__", Rule.__init__.__defaults__)
    trials.accept_documented_rules()


def evaluated(
    tensors: Path, rules: Sequence[RuleRequest], own: str | None = None
) -> list[dict[str, Any]]:
    """Run the evaluation in this process and return the final statuses."""
    exchange = tensors.parent / "exchange"
    exchange.mkdir(exist_ok=True)
    (exchange / ENDED).touch()
    file = None
    if own is not None:
        file = tensors.parent / f"own_{tensors.parent.parent.name}.py"
        file.write_text(own)
    statuses = tensors.parent / "rules" / "debug.json"
    RuleEvaluator(
        EvaluatorConfig(tensors, statuses, exchange, tuple(rules), file, os.getpid())
    ).run()
    return list(json.loads(statuses.read_text()))


def own(rule: str, *, stop: bool = False, **parameters: Any) -> RuleRequest:
    return RuleRequest(rule, f"my-{rule}", parameters, stop)


def test_every_rule_is_invoked_at_every_step(tensors: Path) -> None:
    rules = [*parse_rules(DEBUG_RULES, ["StalledTrainingRule", "Overfit"]), own("Fires", limit="4")]
    stalled, overfit, fires = evaluated(tensors, rules, OWN)
    assert (stalled["RuleEvaluationStatus"], stalled["Points"]) == ("NoIssuesFound", 6)
    assert stalled["StatusDetails"] == ""
    assert overfit["RuleEvaluationStatus"] == "NoIssuesFound"
    assert overfit["StatusDetails"].startswith("nothing to look at: ")
    assert fires["RuleEvaluationStatus"] == "IssuesFound"
    assert (fires["Steps"], fires["Triggered"], fires["Points"]) == ([4, 5], 2, 6)
    index = tensors / "index" / "000000000" / "000000000004_worker_0.json"
    assert fires["Times"][0] == index.stat().st_mtime
    assert fires["StatusDetails"] == "fired 2 times, first at step 4, last at 5"


def test_a_rule_that_raises_is_an_error_and_the_others_continue(tensors: Path) -> None:
    raises, fires = evaluated(tensors, [own("Raises"), own("Fires")], OWN)
    assert raises["RuleEvaluationStatus"] == "Error"
    line, *traceback = raises["StatusDetails"].split("\n")
    assert line == "KeyError: 'what is not there'"
    assert traceback[0].startswith("Traceback")
    assert 'return {}["what is not there"]' in raises["StatusDetails"]
    assert raises["Points"] == 4, "it is not asked again"
    assert fires["Steps"] == [3, 4, 5]


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (own("Fires", limit="many"), "ValueError: invalid literal for int()"),
        (own("Fires", treshold="1"), "TypeError: Watching.__init__() got an unexpected keyword"),
        (own("Nowhere"), "RuleError: "),
        (RuleRequest("LossNotDecreasing", "loss", {"mode": "PREDICT"}), "RuleError: "),
    ],
)
def test_a_rule_that_cannot_be_made_is_an_error(
    tensors: Path, request_: RuleRequest, line: str
) -> None:
    (status,) = evaluated(tensors, [request_], OWN)
    assert status["RuleEvaluationStatus"] == "Error"
    assert status["StatusDetails"].startswith(line)
    assert "Traceback" in status["StatusDetails"]


def test_a_file_that_does_not_import_is_an_error(tensors: Path) -> None:
    (status,) = evaluated(tensors, [own("Mine")], "class Mine(Missing):\n  pass\n")
    assert status["StatusDetails"].startswith("NameError: name 'Missing' is not defined")


def test_a_step_without_the_tensors_a_rule_requires_is_skipped(tensors: Path) -> None:
    missing, future = evaluated(tensors, [own("Missing"), own("Future")], OWN)
    assert missing["Steps"] == [0, 2, 4]
    assert future["RuleEvaluationStatus"] == "NoIssuesFound"


def test_the_example_of_sagemakers_guide_works(tensors: Path) -> None:
    (status,) = evaluated(tensors, [own("Gradients")], OWN)
    assert (status["RuleEvaluationStatus"], status["Triggered"]) == ("IssuesFound", 6)


def test_a_rule_may_end_its_own_evaluation(tensors: Path) -> None:
    (status,) = evaluated(tensors, [own("Ends")], OWN)
    assert (status["RuleEvaluationStatus"], status["Steps"]) == ("IssuesFound", [0])


@pytest.mark.parametrize(
    "request_", [own("Fires", stop=True, limit="2"), own("Stopping", limit="2")]
)
def test_a_rule_that_stops_training_gives_its_reason_once(
    tensors: Path, request_: RuleRequest
) -> None:
    evaluated(tensors, [request_, own("Fires", stop=True)], OWN)
    text = (tensors.parent / "exchange" / STOP).read_text()
    assert text == f"rule {request_.name} fired at step 2"


def test_a_rule_stops_training_only_if_configured_to(tensors: Path) -> None:
    evaluated(tensors, [own("Fires")], OWN)
    assert not (tensors.parent / "exchange" / STOP).exists()


def test_a_folder_without_tensors_is_an_error(tmp_path: Path) -> None:
    (status,) = evaluated(tmp_path / "tensors", parse_rules(DEBUG_RULES, ["Overfit"]))
    assert status["RuleEvaluationStatus"] == "Error"
    assert status["StatusDetails"] == (
        f"{tmp_path}/tensors: no tensors that could be read were saved, so nothing was evaluated"
    )


def test_a_truncated_description_is_an_error(tensors: Path) -> None:
    (file,) = (tensors / "collections").rglob("*.json")
    file.write_text(file.read_text()[:40])
    (status,) = evaluated(tensors, parse_rules(DEBUG_RULES, ["StalledTrainingRule"]))
    assert status["RuleEvaluationStatus"] == "Error"


def test_truncated_files_do_not_affect_other_steps(tensors: Path) -> None:
    for part, suffix in (("index", "json"), ("events", "tfevents")):
        (file,) = (tensors / part).rglob(f"*{2 if part == 'index' else 3:012}_worker_0.{suffix}")
        file.write_bytes(file.read_bytes()[:30])
    loss, stalled = evaluated(
        tensors,
        parse_rules(DEBUG_RULES, ["LossNotDecreasing", "StalledTrainingRule"],
            {"LossNotDecreasing_num_steps": 1}),
    )  # fmt: skip
    assert stalled["Points"] == 5
    assert stalled["StatusDetails"] == "1 saved steps could not be read"
    assert loss["Points"] == 3  # 1 with 0, 4 with 1, 5 with 4


def test_statuses_that_cannot_be_written_do_not_end_the_evaluation(
    tensors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = tensors.parent / "exchange"
    exchange.mkdir()
    (exchange / ENDED).touch()
    (tensors.parent / "rules").write_text("a file where a folder should be")
    statuses = tensors.parent / "rules" / "debug.json"
    request = parse_rules(DEBUG_RULES, ["StalledTrainingRule"])
    RuleEvaluator(EvaluatorConfig(tensors, statuses, exchange, request, None, os.getpid())).run()
    assert capsys.readouterr().err == f"{statuses}: cannot be written\n"


def test_the_evaluators_configuration_round_trips(tmp_path: Path) -> None:
    sent = EvaluatorConfig(
        tmp_path / "a", tmp_path / "b", tmp_path / "c", parse_rules(DEBUG_RULES, ["auto"]), None, 12
    )
    sent.write(tmp_path / "file")
    assert EvaluatorConfig.read(tmp_path / "file") == sent

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.debugger.settings import HookSettings
from local.errors import UserError
from local.requests import aws_debugger as subject
from local.requests.aws_debugger import ACCOUNTS, aws_debugger, evaluator_image
from local.requests.monitoring import Monitoring
from tests.unit.local.requests.test_training import PLAIN, accepted

EVERYTHING = Monitoring(
    debug=True,
    profile=True,
    rules=("auto", "TensorVariance"),
    parameters={
        "TensorVariance_max_threshold": "9",
        "TensorVariance_tensor_regex": ".*weight",
        "batchsize_patience": "50",
    },
    stop_on=("Overfit",),
)


def members(monitoring: Monitoring = EVERYTHING, **hyperparameters: str) -> dict[str, Any]:
    job = replace(PLAIN, hyperparameters=hyperparameters)
    return aws_debugger(monitoring, job, "job", "eu-west-1")


def test_the_accounts_equal_those_of_sagemakers_sdk() -> None:
    spec = importlib.util.find_spec("sagemaker")
    assert spec is not None
    folder = Path((spec.submodule_search_locations or [])[0])
    table = json.loads((folder / "core/image_uri_config/debugger.json").read_text())
    assert table["versions"]["latest"]["registries"] == ACCOUNTS
    assert table["versions"]["latest"]["repository"] == "sagemaker-debugger-rules"


@pytest.mark.parametrize(
    ("region", "registry"),
    [
        ("eu-west-1", "929884845733.dkr.ecr.eu-west-1.amazonaws.com"),
        ("cn-north-1", "618459771430.dkr.ecr.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_image_of_the_region(region: str, registry: str) -> None:
    assert evaluator_image(region) == f"{registry}/sagemaker-debugger-rules:latest"


def test_a_region_without_an_image() -> None:
    with pytest.raises(UserError, match="found region eu-south-2, expected one of af-south-1, "):
        evaluator_image("eu-south-2")


def test_the_request_is_valid_for_sagemaker() -> None:
    request = replace(PLAIN, debugger=members()).request("job")
    accepted("CreateTrainingJob", request)
    assert [rule["RuleConfigurationName"] for rule in request["DebugRuleConfigurations"]][-1] == (
        "TensorVariance"
    )
    (report,) = request["ProfilerRuleConfigurations"]
    assert report["RuleParameters"] == {
        "rule_to_invoke": "ProfilerReport",
        "batchsize_patience": "50",
    }


def test_the_request_contains_only_requested_features() -> None:
    assert list(members(Monitoring(debug=True))) == ["DebugHookConfig", "DebugRuleConfigurations"]
    assert list(members(Monitoring(profile=True))) == [
        "ProfilerConfig",
        "ProfilerRuleConfigurations",
    ]


def test_the_action_equals_that_of_sagemakers_sdk() -> None:
    actions = pytest.importorskip("smdebug_rulesconfig.actions.actions")
    action = actions.StopTraining()
    action.update_training_job_prefix_if_not_specified("job")
    rules = {
        rule["RuleConfigurationName"]: rule["RuleParameters"]
        for rule in members()["DebugRuleConfigurations"]
    }
    assert rules["Overfit"]["action_json"] == action.serialize()
    assert "action_json" not in rules["DeadRelu"]


def test_our_hook_accepts_the_collections(tmp_path: Path) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    hook = members(save_interval="100")["DebugHookConfig"]
    (config / "debughookconfig.json").write_text(json.dumps(hook))
    settings = HookSettings.read(tmp_path)
    saved = {
        each["CollectionName"]: each["CollectionParameters"]
        for each in settings.configuration["CollectionConfigurations"]
    }
    assert saved["losses"]["eval.save_interval"] == "2"
    assert saved["weights"]["save_interval"] == "100"
    assert saved["inputs"]["include_regex"] == "^input_images$"


def test_a_rules_own_collections_are_kept_too() -> None:
    given = {"AllZero_collection_names": "biases, losses"}
    hook = members(Monitoring(debug=True, rules=("AllZero",), parameters=given))["DebugHookConfig"]
    names = [each["CollectionName"] for each in hook["CollectionConfigurations"]]
    assert names == ["losses", "biases"]


def test_intervals_are_set_by_the_hyperparameters() -> None:
    assert members()["ProfilerConfig"]["ProfilingIntervalInMilliseconds"] == 500
    told = members(EVERYTHING, **{"profile-interval": "100", "save-interval": "7"})
    assert told["ProfilerConfig"]["ProfilingIntervalInMilliseconds"] == 100
    losses = told["DebugHookConfig"]["CollectionConfigurations"][0]["CollectionParameters"]
    assert losses == {"train.save_interval": "7", "eval.save_interval": "1"}


def test_requests_that_aws_would_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="built-in rules only; omit --rules-file"):
        members(Monitoring(debug=True, rules_file="mine.py"))
    long = {"ExplodingTensor_tensor_regex": "x" * 257}
    with pytest.raises(
        UserError, match="'tensor_regex': found 257 characters, expected at most 256"
    ):
        members(Monitoring(debug=True, parameters=long))
    monkeypatch.setattr(subject, "MAX_RULES", 3)
    with pytest.raises(UserError, match="expected at most 3"):
        members()

"""Every rule as SageMaker's SDK v2 sends it (smdebug_rulesconfig 1.0.1)."""

import json
from pathlib import Path
from typing import Any

import pytest

from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import Catalogue, RuleError, RuleRequest, from_configurations

SENT = json.loads((Path(__file__).parents[3] / "contract/sdk-v2-rules.json").read_text())
KINDS = (("DebugRuleConfigurations", DEBUG_RULES), ("ProfilerRuleConfigurations", PROFILER_RULES))
EVERY = [
    pytest.param(catalogue, rule, id=rule["RuleConfigurationName"])
    for kind, catalogue in KINDS
    for rule in SENT[kind]
]
NEEDS_MORE = {
    "AllZero": "collection_names and tensor_regex",
    "SimilarAcrossRuns": "'other_trials' is required",
    "TensorVariance": "collection_names and tensor_regex",
    "UnchangedTensor": "collection_names and tensor_regex",
}
"""Rules that AWS documents a parameter as required of, which the SDK sends nothing for."""
NOT_OF_IMAGES = {
    "CreateXgboostReport": "XGBoost",
    "FeatureImportanceOverweight": "XGBoost",
    "NLPSequenceRatio": "sequences",
    "TreeDepth": "XGBoost",
}
SAID_ELSEWHERE = {"stop", "all", "others", "tuned"}
"""Configurations with parameters and actions, each of which has a test of its own."""


def read(catalogue: Catalogue, rule: dict[str, Any]) -> RuleRequest:
    (request,) = from_configurations(catalogue, [rule], "Rules")
    return request


def named(name: str) -> RuleRequest:
    for kind, catalogue in KINDS:
        for rule in SENT[kind]:
            if rule["RuleConfigurationName"] == name:
                return read(catalogue, rule)
    raise LookupError(name)


@pytest.mark.parametrize(("catalogue", "rule"), EVERY)
def test_the_sdks_requests_mean_the_documented_defaults(
    catalogue: Catalogue, rule: dict[str, Any]
) -> None:
    name = rule["RuleConfigurationName"]
    if name in SAID_ELSEWHERE:
        assert read(catalogue, rule).name == name
        return
    if reason := (NEEDS_MORE | NOT_OF_IMAGES).get(name):
        with pytest.raises(RuleError, match=f"{name}.*{reason}"):
            read(catalogue, rule)
        return
    defaults = {key: each.default for key, each in catalogue[name].parameters.items()}
    assert read(catalogue, rule).parameters == defaults


def test_every_rule_is_sent_by_the_sdk_or_specific_to_berth() -> None:
    sent = {rule["RuleParameters"]["rule_to_invoke"] for rules in SENT.values() for rule in rules}
    assert set(DEBUG_RULES) | set(NOT_OF_IMAGES) | set(PROFILER_RULES) == sent | {
        "OverallFrameworkMetrics"
    }


def test_actions() -> None:
    stop, every = named("stop"), named("all")
    assert (stop.stop, stop.unserved) == (True, ())
    assert (every.stop, every.unserved) == (True, ("email", "sms"))
    assert not named("Overfit").stop


def test_other_trials_are_numbered_parameters() -> None:
    parameters = named("others").parameters
    assert parameters["other_trials"] == (
        "s3://bucket/one/debug-output,s3://bucket/two/debug-output"
    )
    assert (parameters["collection_names"], parameters["tensor_regex"]) == ("weights", None)


def test_a_report_that_changes_the_rules_it_runs() -> None:
    parameters = named("tuned").parameters
    assert parameters["StepOutlier_mode"] is None
    assert parameters["CPUBottleneck_cpu_threshold"] == 80
    assert parameters["LoadBalancing_threshold"] == 0.4


def changed(catalogue: Catalogue, name: str, **parameters: Any) -> Any:
    rule = {
        "RuleConfigurationName": "mine",
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }
    return read(catalogue, rule).parameters


@pytest.mark.parametrize("nothing", ["None", "none", "", " ", "null", None])
@pytest.mark.parametrize(
    ("catalogue", "rule", "parameter"),
    [
        (PROFILER_RULES, "StepOutlier", "mode"),
        (PROFILER_RULES, "StepOutlier", "stddev"),
        (DEBUG_RULES, "LossNotDecreasing", "mode"),
        (DEBUG_RULES, "LossNotDecreasing", "use_losses_collection"),
        (DEBUG_RULES, "DeadRelu", "tensor_regex"),
        (DEBUG_RULES, "PoorWeightInitialization", "patience"),
    ],
)
def test_an_empty_value_means_the_default(
    catalogue: Catalogue, rule: str, parameter: str, nothing: str | None
) -> None:
    found = changed(catalogue, rule, **{parameter: nothing})[parameter]
    assert found == catalogue[rule].parameters[parameter].default


@pytest.mark.parametrize(
    ("catalogue", "rule", "given", "parameter", "meant"),
    [
        (PROFILER_RULES, "StepOutlier", {"mode": "ModeKeys.EVAL"}, "mode", "EVAL"),
        (PROFILER_RULES, "StepOutlier", {"mode": "train"}, "mode", "TRAIN"),
        (DEBUG_RULES, "LossNotDecreasing", {"mode": "modes.Eval"}, "mode", "EVAL"),
        (DEBUG_RULES, "LossNotDecreasing", {"useLossesCollection": "False"}, None, False),
        (DEBUG_RULES, "ExplodingTensor", {"only_nan": "True"}, "only_nan", True),
        (DEBUG_RULES, "ExplodingTensor", {"onlyNan": "1"}, "only_nan", True),
        (DEBUG_RULES, "Overfit", {"ratioThreshold": ".5"}, "ratio_threshold", 0.5),
        (DEBUG_RULES, "Overfit", {"patience": "2.0"}, "patience", 2),
        (DEBUG_RULES, "VanishingGradient", {"threshold": "1E-9"}, "threshold", 1e-9),
        (DEBUG_RULES, "StalledTrainingRule", {"threshold": "+60"}, "threshold", 60.0),
    ],
)
def test_values_as_clients_write_them(
    catalogue: Catalogue, rule: str, given: dict[str, str], parameter: str | None, meant: Any
) -> None:
    found = changed(catalogue, rule, **given)[parameter or "use_losses_collection"]
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("catalogue", "rule", "given", "message"),
    [
        (PROFILER_RULES, "StepOutlier", {"mode": "fast"}, "'mode': expected one of TRAIN, EVAL"),
        (DEBUG_RULES, "LossNotDecreasing", {"mode": "PREDICT"}, "expected one of EVAL, TRAIN"),
        (DEBUG_RULES, "Overfit", {"patience": "nan"}, "expected a whole number, found 'nan'"),
        (DEBUG_RULES, "Overfit", {"action_json": "stop"}, "action_json: expected the JSON"),
        (DEBUG_RULES, "Overfit", {"other_trial_0": "s3://b/t"}, "found other trials"),
    ],
)
def test_meaningless_values_are_refused(
    catalogue: Catalogue, rule: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(RuleError, match=f"rule {rule}.*{message}"):
        changed(catalogue, rule, **given)

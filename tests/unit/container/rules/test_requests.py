import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleError, from_configurations, parse_rules


def configuration(
    rule: str, name: str = "mine", **parameters: str
) -> dict[str, dict[str, str] | str]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": "any",
        "RuleParameters": {"rule_to_invoke": rule, **parameters},
    }


def test_auto_means_every_rule_without_required_parameters() -> None:
    auto = {request.rule for request in parse_rules(DEBUG_RULES, ["auto"])}
    assert {"VanishingGradient", "Overfit", "StalledTrainingRule"} <= auto
    assert not auto & {"AllZero", "UnchangedTensor", "SimilarAcrossRuns", "TensorVariance"}
    for name in auto:
        assert not any(each.required for each in DEBUG_RULES[name].parameters.values())
    assert {request.rule for request in parse_rules(PROFILER_RULES, ["auto"])} == set(
        PROFILER_RULES
    )


def test_names_and_overrides_in_any_capitalisation() -> None:
    (request,) = parse_rules(
        DEBUG_RULES, ["OVERFIT"], {"overfit_Ratio_Threshold": "0.5"}, ["overfit"]
    )
    assert (request.rule, request.name, request.stop) == ("Overfit", "Overfit", True)
    assert request.parameters["ratio_threshold"] == 0.5
    assert request.parameters["patience"] == DEBUG_RULES["Overfit"].parameters["patience"].default


def test_none_is_the_default() -> None:
    (request,) = parse_rules(
        DEBUG_RULES, ["VanishingGradient"], {"VanishingGradient_threshold": "None"}
    )
    assert request.parameters["threshold"] == 1e-7


def test_an_override_applies_to_the_longest_matching_rule_name() -> None:
    requests = parse_rules(
        DEBUG_RULES, ["auto"], {"StalledTrainingRule_stop_training_on_fire": "True"}
    )
    (stalled,) = [each for each in requests if each.rule == "StalledTrainingRule"]
    assert stalled.parameters["stop_training_on_fire"] is True


@pytest.mark.parametrize(
    ("names", "overrides", "stop", "message"),
    [
        (["Overfitting"], {}, [], "unknown rule 'Overfitting': did you mean 'Overfit'"),
        (["zzz"], {}, [], "unknown rule 'zzz': known are AllZero, "),
        (["Overfit"], {"Overfit_patiense": 1}, [], "'patiense': did you mean 'patience'"),
        (["Overfit"], {"DeadRelu_threshold_layer": 1}, [], "of a rule that is evaluated"),
        (["Overfit"], {"Overfit_patience": 1.5}, [], "expected a whole number, found 1.5"),
        (["Overfit"], {"Overfit_patience": True}, [], "expected a whole number, found True"),
        (["Overfit"], {"Overfit_ratio_threshold": "big"}, [], "expected a number, found 'big'"),
        (["Overfit"], {"Overfit_ratio_threshold": "1e999"}, [], "expected a number"),
        (["SimilarAcrossRuns"], {}, [], "'other_trials' is required; give SimilarAcrossRuns_other"),
        (["Overfit"], {}, ["DeadRelu"], "'DeadRelu' is to stop training but is not evaluated"),
        (
            ["AllZero"],
            {},
            [],
            "one of the parameters collection_names and tensor_regex is required",
        ),
        (
            ["TensorVariance"],
            {"TensorVariance_tensor_regex": ".*"},
            [],
            "one of the parameters max_threshold and min_threshold is required",
        ),
        (
            ["DeadRelu"],
            {"DeadRelu_tensor_regex": "(relu"},
            [],
            "'tensor_regex': expected a regular expression, found '(relu': missing )",
        ),
        (
            ["ExplodingTensor"],
            {"ExplodingTensor_only_nan": "maybe"},
            [],
            "expected true or false, found 'maybe'",
        ),
    ],
)
def test_invalid_requests_are_described(
    names: list[str], overrides: Any, stop: list[str], message: str
) -> None:
    with pytest.raises(RuleError) as error:
        parse_rules(DEBUG_RULES, names, overrides, stop)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_custom_rules_keep_their_parameters_unchanged() -> None:
    with pytest.raises(RuleError, match="unknown rule 'Mine'"):
        parse_rules(DEBUG_RULES, ["Mine"])
    (request,) = parse_rules(DEBUG_RULES, ["Mine"], {"Mine_Limit": "7"}, own=True)
    assert request.parameters == {"Limit": "7"}


def test_the_rule_configurations_of_a_request_are_read() -> None:
    stop = json.dumps([{"name": "stoptraining", "parameters": {}}])
    overfit, zeros, own = from_configurations(
        DEBUG_RULES,
        [
            configuration("Overfit", "a", patience="3", action_json=stop),
            configuration("AllZero", "b", tensor_regex=".*", base_trial_path="s3://x"),
            configuration("Mine", "c", source_s3_uri="s3://bucket/mine.py", limit="2"),
        ],
        "DebugRuleConfigurations",
    )
    assert (overfit.name, overfit.stop, overfit.parameters["patience"]) == ("a", True, 3)
    assert (zeros.stop, zeros.parameters["tensor_regex"]) == (False, ".*")
    assert (own.rule, own.source, own.parameters) == ("Mine", "s3://bucket/mine.py", {"limit": "2"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RuleConfigurationName": "x"}, r"Configurations\[0\]: expected a RuleConfigurationName"),
        (configuration("Overfit", ""), "expected a RuleConfigurationName"),
        (configuration("Nothing"), "unknown rule 'Nothing'"),
        (configuration("Overfit", patience="x"), "expected a whole number"),
    ],
)
def test_an_invalid_configuration_is_refused(
    given: dict[str, dict[str, str] | str] | dict[str, str], message: str
) -> None:
    with pytest.raises(RuleError, match=message):
        from_configurations(DEBUG_RULES, [given], "DebugRuleConfigurations")


def test_the_report_accepts_parameters_of_its_rules() -> None:
    given = {"rule_to_invoke": "ProfilerReport", "LowGPUUtilization_threshold_p95": "60"}
    (asked,) = from_configurations(
        PROFILER_RULES,
        [{"RuleConfigurationName": "ProfilerReport-1", "RuleParameters": given}],
        "ProfilerRuleConfigurations",
    )
    assert asked.parameters == {
        "scan_interval_us": 60_000_000,
        "LowGPUUtilization_threshold_p95": 60.0,
    }
    (alone,) = parse_rules(PROFILER_RULES, ["ProfilerReport"], {"cpubottleneck_THRESHOLD": "20"})
    assert alone.parameters["CPUBottleneck_threshold"] == 20.0
    both = parse_rules(
        PROFILER_RULES,
        ["CPUBottleneck", "ProfilerReport"],
        {"CPUBottleneck_threshold": 30, "ProfilerReport_CPUBottleneck_threshold": 40},
    )
    assert both[0].parameters["threshold"] == 30.0
    assert both[1].parameters["CPUBottleneck_threshold"] == 40.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("CPUBottlenek_threshold", 1, "did you mean 'CPUBottleneck'"),
        ("CPUBottleneck_thresold", 1, "'thresold' of CPUBottleneck: did you mean 'threshold'"),
        ("ProfilerReport_threshold", 1, "unknown parameter 'threshold': expected <Rule>_<param"),
        ("CPUBottleneck_threshold", "high", "CPUBottleneck: parameter 'threshold': expected a num"),
        ("CPUBottleneck_patience", 1.5, "expected a whole number, found 1.5"),
    ],
)
def test_parameters_that_the_report_cannot_pass_to_its_rules_are_named(
    key: str, value: float | str, message: str
) -> None:
    with pytest.raises(RuleError) as error:
        parse_rules(PROFILER_RULES, ["ProfilerReport"], {key: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_rule_or_refused_in_one_line(name: Any, key: Any) -> None:
    assert "\n" not in refusal(name, key)


def refusal(name: str, key: str) -> str:
    try:
        parse_rules(DEBUG_RULES, [name], {key: "1"})
    except RuleError as error:
        return str(error)
    return ""

import json
from typing import Any

import pytest

from container.hyperparameters import Hyperparameters
from local.errors import UserError
from local.requests.monitoring import Monitoring, profiler_rules, split_names


def test_without_options_there_are_no_hyperparameters() -> None:
    Monitoring().check()
    assert Monitoring().hyperparameters() == {}
    assert Monitoring().debug_rules() == ()


@pytest.mark.parametrize(
    "monitoring",
    [
        Monitoring(debug=True),
        Monitoring(profile=True),
        Monitoring(
            debug=True,
            profile=True,
            rules=("Overfit", "deadrelu"),
            parameters={
                "Overfit_patience": "3",
                "DeadRelu_tensor_regex": ".*relu",
                "StepOutlier_mode": "TRAIN",
                "Overfit_ratio_threshold": "1e-3",
            },
            stop_on=("overfit",),
        ),
        Monitoring(debug=True, rules=("auto", "Mine"), rules_file="mine.py", own=("Mine", "Other")),
        Monitoring(debug=True, rules_file="mine.py", own=("Mine",)),
        Monitoring(debug=True, rules=("none",)),
        Monitoring(
            debug=True,
            rules=("SimilarAcrossRuns",),
            parameters={"SimilarAcrossRuns_other_trials": "a,b"},
        ),
    ],
)
def test_our_container_accepts_the_hyperparameters(monitoring: Monitoring) -> None:
    monitoring.check()
    read = Hyperparameters.parse(monitoring.hyperparameters())
    assert bool(read.debug) is monitoring.debug
    assert bool(read.profile) is monitoring.profile
    if monitoring.debug:
        assert read.debug_rules() == monitoring.debug_rules()
    assert read.profiler_rules() == profiler_rules(monitoring.parameters)


def test_the_hyperparameters_for_monitoring() -> None:
    monitoring = Monitoring(
        debug=True,
        rules=("Overfit", "AllZero"),
        parameters={
            "Overfit_patience": "3",
            "AllZero_tensor_regex": "none.*",
            "ExplodingTensor_only_nan": "True",
        },
        stop_on=("Overfit",),
    )
    told = monitoring.hyperparameters()
    assert json.loads(told.pop("rule_parameters")) == {
        "Overfit_patience": 3,
        "AllZero_tensor_regex": "none.*",
        "ExplodingTensor_only_nan": True,
    }
    assert told == {"debug": "true", "rules": "Overfit,AllZero", "stop_on": "Overfit"}


def test_all_custom_rules_are_evaluated_if_none_is_named() -> None:
    monitoring = Monitoring(debug=True, rules_file="mine.py", own=("Mine", "Other"))
    assert monitoring.hyperparameters()["rules"] == "auto,Mine,Other"
    assert {"Mine", "Other", "Overfit"} <= {rule.name for rule in monitoring.debug_rules()}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"rules": ("Overfitt",)}, "unknown rule 'Overfitt': did you mean 'Overfit'"),
        ({"rules": ("LowGPUUtilization",)}, "is a profiler rule"),
        ({"stop_on": ("batchsize",)}, "is a profiler rule"),
        ({"stop_on": ("AllZero",)}, "'AllZero' is to stop training but is not evaluated"),
        ({"rules": ("SimilarAcrossRuns",)}, "'other_trials' is required"),
        ({"parameters": {"Overfit_patienc": "3"}}, "did you mean 'patience'?"),
        ({"parameters": {"Overfit_patience": "few"}}, "expected a whole number, found 'few'"),
        ({"parameters": {"BatchSize_patience": "few"}}, "rule BatchSize: parameter 'patience'"),
        ({"parameters": {"BatchSise_patience": "3"}}, "rule parameter 'BatchSise_patience'"),
        (
            {"rules": ("Overfitt",), "rules_file": "mine.py", "own": ("Mine",)},
            "did you mean 'Overfit'",
        ),
        ({"rules": ("Mein",), "rules_file": "mine.py", "own": ("Mine",)}, "did you mean 'Mine'"),
        (
            {"debug": False, "profile": True, "parameters": {"Overfit_patience": "3"}},
            "parameters of debugger rules need --debug",
        ),
        ({"debug": False, "parameters": {"BatchSize_window": "3"}}, "needs --debug or --profile"),
    ],
)
def test_invalid_options_are_refused_before_the_job_starts(
    given: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        Monitoring(**({"debug": True} | given)).check()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_may_be_separated_by_commas() -> None:
    assert split_names(["Overfit, DeadRelu", "AllZero,"]) == ("Overfit", "DeadRelu", "AllZero")

"""Writes what the SageMaker Python SDK v2 sends for every rule of smdebug_rulesconfig, as JSON.

`python rule_requests.py FILE` in the environment of `sdk-v2.txt`; `sdk-v2-rules.json` is
its output.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sagemaker.debugger import ProfilerRule, Rule, rule_configs
from smdebug_rulesconfig import profiler_rules
from smdebug_rulesconfig.debugger_rules import builtin_rules

JOB = "job"
ACTIONS = {
    "stop": rule_configs.StopTraining(),
    "all": rule_configs.ActionList(
        rule_configs.StopTraining("job"),
        rule_configs.Email("someone@example.com"),
        rule_configs.SMS("+4400000000"),
    ),
}
OTHER_TRIALS = ["s3://bucket/one/debug-output", "s3://bucket/two/debug-output"]


def debugger_rules() -> Iterator[dict[str, Any]]:
    for name in sorted(name for name, made in vars(builtin_rules).items() if callable(made)):
        if not name.startswith("_"):
            yield sent(Rule.sagemaker(getattr(rule_configs, name)()))
    for name, actions in ACTIONS.items():
        yield sent(Rule.sagemaker(rule_configs.overfit(), name=name, actions=actions))
    yield sent(
        Rule.sagemaker(
            rule_configs.similar_across_runs(),
            name="others",
            other_trials_s3_input_paths=OTHER_TRIALS,
            rule_parameters={"collection_names": "weights", "tensor_regex": "None"},
        )
    )


def sent(rule: Any) -> dict[str, Any]:
    rule.prepare_actions(JOB)
    request: dict[str, Any] = rule.to_debugger_rule_config_dict()
    return request


def measuring_rules() -> Iterator[dict[str, Any]]:
    every = vars(profiler_rules.rules)
    for name in sorted(every):
        made = every[name]
        if isinstance(made, type) and name != "ProfilerRuleBase":
            yield ProfilerRule.sagemaker(made()).to_profiler_rule_config_dict()
    report = rule_configs.ProfilerReport(
        StepOutlier_mode=None, cpubottleneck_cpu_threshold=80, LoadBalancing_threshold=0.4
    )
    yield ProfilerRule.sagemaker(report, name="tuned").to_profiler_rule_config_dict()


def main() -> None:
    rules = {
        "DebugRuleConfigurations": list(debugger_rules()),
        "ProfilerRuleConfigurations": list(measuring_rules()),
    }
    Path(sys.argv[1]).write_text(json.dumps(rules, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

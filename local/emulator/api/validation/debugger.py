"""Validation of a training job's debugger and profiler configurations.

The names of built-in rules are not checked: AWS's API does not check them either.
"""

import re
from typing import Any

from local.emulator.api.validation.data import bucket_and_key, check_output
from local.emulator.api.validation.fields import check_unique, unsupported
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.training.own_rules import file_name, own_rules
from local.emulator.training.rules import KINDS

NEEDS = {
    "DebugRuleConfigurations": "DebugHookConfig",
    "ProfilerRuleConfigurations": "ProfilerConfig",
}
"""The configuration of rules → the configuration of what writes the files they read."""
INTERVALS = (100, 200, 500, 1000, 5000, 60000)
"""Allowed ProfilingIntervalInMilliseconds (API reference, ProfilerConfig)."""
FILE_NAME = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


def check_debugger(request: dict[str, Any], context: Context) -> None:
    """Check the debugger's and the profiler's members of a CreateTrainingJob request.

    Raises:
        ServiceError: the request is invalid or not supported.
    """
    profiler = request.get("ProfilerConfig", {})
    interval = profiler.get("ProfilingIntervalInMilliseconds", INTERVALS[0])
    if interval not in INTERVALS:
        raise invalid(
            f"ProfilerConfig.ProfilingIntervalInMilliseconds is {interval}; expected one of "
            f"{', '.join(map(str, INTERVALS))}."
        )
    for field, needed in NEEDS.items():
        rules = request.get(field)
        if rules and needed not in request:
            raise invalid(f"{field} was given without {needed}; expected both.")
    if profiler.get("DisableProfiler") and request.get("ProfilerRuleConfigurations"):
        raise invalid(
            "ProfilerRuleConfigurations was given with ProfilerConfig.DisableProfiler; expected "
            "one or the other."
        )
    for kind in KINDS:
        rules = request.get(kind.configurations, [])
        check_unique(kind.configurations, (rule["RuleConfigurationName"] for rule in rules))
        for rule in rules:
            if "S3OutputPath" in rule:
                name = rule["RuleConfigurationName"]
                where = f"{kind.configurations} '{name}': S3OutputPath"
                check_output(rule["S3OutputPath"], where, context)
    sources: dict[str, str] = {}
    for rule, source in own_rules(request):
        field = f"the rule '{rule['RuleConfigurationName']}': RuleParameters.source_s3_uri"
        _check_rule_file(field, source, context)
        if sources.setdefault(file_name(source), source) != source:
            raise unsupported(f"{field} '{source}'", "expected files with different names")


def _check_rule_file(field: str, source: str, context: Context) -> None:
    """Check that a rule's file exists in S3 and has a name that is valid in the container."""
    bucket, key = bucket_and_key(source, field)
    if not FILE_NAME.fullmatch(file_name(source)):
        raise unsupported(
            f"{field} '{source}'",
            "expected a file named with at most 128 letters, digits, dots, hyphens and underscores",
        )
    if not any(stored.key == key for stored in context.objects.keys(bucket, key)):
        raise invalid(f"{field} is '{source}'; the local S3 has no such object.")

"""Evaluates profiler rules over a recording."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from container.errors import first_line
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.outcome import RuleOutcome
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.rules.bottlenecks import cpu_bottleneck, io_bottleneck
from container.monitoring.profiler.rules.gpu import (
    batch_size,
    gpu_memory_increase,
    load_balancing,
    low_gpu_utilization,
)
from container.monitoring.profiler.rules.overall import (
    overall_framework_metrics,
    overall_system_usage,
)
from container.monitoring.profiler.rules.steps import (
    dataloader,
    max_initialization_time,
    step_outlier,
)
from container.rules.profiler import PROFILER_RULES, SCAN
from container.rules.requests import RuleRequest

REPORT = "ProfilerReport"

RULES: dict[str, Callable[[ProfileMetrics, RuleRequest], RuleOutcome]] = {
    "BatchSize": batch_size,
    "CPUBottleneck": cpu_bottleneck,
    "IOBottleneck": io_bottleneck,
    "GPUMemoryIncrease": gpu_memory_increase,
    "LoadBalancing": load_balancing,
    "LowGPUUtilization": low_gpu_utilization,
    "MaxInitializationTime": max_initialization_time,
    "StepOutlier": step_outlier,
    "Dataloader": dataloader,
    "OverallSystemUsage": overall_system_usage,
    "OverallFrameworkMetrics": overall_framework_metrics,
}


def evaluate(
    recording: Recording, rules: Sequence[RuleRequest], metrics: ProfileMetrics | None = None
) -> list[RuleOutcome]:
    """An outcome for every requested rule, in their order.

    A ProfilerReport's follows those of the rules it runs that were not requested themselves, or
    that its overrides change; these are `part_of` it. A rule that fails says so in its outcome.
    """
    metrics = metrics or ProfileMetrics(recording)
    outcomes = [_evaluated(metrics, request) for request in rules if request.rule != REPORT]
    own = {outcome.request.rule: outcome for outcome in outcomes}
    names = {request.name for request in rules}
    for request in rules:
        if request.rule != REPORT:
            continue
        parts = []
        for part in report_parts(request):
            known = own.get(part.rule)
            if known is None or (_overridden(request, part) and not _same(known.request, part)):
                name = f"{request.name}-{part.rule}" if part.name in names else part.name
                found = _evaluated(metrics, replace(part, name=name))
                known = replace(found, part_of=request.name)
                outcomes.append(known)
            parts.append(known)
        outcomes.append(_report(request, parts))
    return outcomes


def report_parts(request: RuleRequest) -> Iterator[RuleRequest]:
    """The rules a ProfilerReport runs, with its `<Rule>_<parameter>` overrides.

    Its scan interval is theirs too, where they are given none of their own.
    """
    given = {key.lower(): value for key, value in request.parameters.items()}
    for rule, spec in PROFILER_RULES.items():
        if rule == REPORT:
            continue
        values: dict[str, Any] = {}
        for name, parameter in spec.parameters.items():
            default = given.get(name, parameter.default) if name in SCAN else parameter.default
            values[name] = given.get(f"{rule}_{name}".lower(), default)
        yield RuleRequest(rule, rule, values)


def _overridden(request: RuleRequest, part: RuleRequest) -> bool:
    return any(key.lower().startswith(f"{part.rule.lower()}_") for key in request.parameters)


def _same(one: RuleRequest, other: RuleRequest) -> bool:
    return dict(one.parameters) == dict(other.parameters)


def _evaluated(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    try:
        return RULES[request.rule](metrics, request)
    except Exception as error:  # a rule that fails must not cost the report
        reason = f"the rule failed: {type(error).__name__}: {first_line(error)}"
        return RuleOutcome(request, reason, judged=False, error=traceback.format_exc())


def _report(request: RuleRequest, parts: Sequence[RuleOutcome]) -> RuleOutcome:
    fired = [part for part in parts if part.fired]
    unjudged = [part for part in parts if not part.judged]
    reason = f"{len(fired)} of {len(parts)} rules fired"
    if fired:
        reason += ": " + ", ".join(part.request.rule for part in fired)
    if unjudged:
        reason += f"; {len(unjudged)} had too little to judge"
    return RuleOutcome(
        request,
        reason,
        triggered=len(fired),
        violations=sum(part.violations for part in fired),
        datapoints=max((part.datapoints for part in parts), default=0),
        moments=tuple(sorted({part.moments[0] for part in fired if part.moments})),
        details={
            "rules": {
                part.request.rule: {"triggered": part.triggered, "reason": part.reason}
                for part in parts
            }
        },
    )

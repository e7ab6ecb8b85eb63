"""Every rule that was evaluated, the profiler's and the debugger's, in one shape."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from container.monitoring.profiler.rules.outcome import Outcome
from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES

FIRED = "IssuesFound"
SUMMARY = "ProfilerReport"
"""The rule that only sums up what the others found; it is no row of its own."""


def rule_figures(
    outcomes: Iterable[Outcome], debug_rules: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A row a rule, those that fired most first.

    `datapoints` is how much the rule looked at and `needed` how much it wants before it judges
    (None: anything will do); `moments` are unix seconds, `steps` training steps, both the first few
    it fired at.
    """
    own = [outcome for outcome in outcomes if outcome.request.rule != SUMMARY]
    rows = [*map(_of_profiler, own), *map(_of_debugger, debug_rules)]
    return sorted(rows, key=lambda row: (-row["triggered"], row["status"] != FIRED))


def fired(rows: Iterable[Mapping[str, Any]], *rules: str) -> dict[str, Any] | None:
    """The first of these rules that found something."""
    return next(
        (dict(row) for row in rows if row["rule"] in rules and row["status"] == FIRED), None
    )


def said(row: Mapping[str, Any]) -> str:
    """That a rule fired, how often, and its own words for why, without a full stop.

    The debugger's own words begin with `fired at step 40: ` or `fired 3 times, …: `.
    """
    reason = str(row["reason"]).strip().partition("\n")[0].rstrip(".")
    if reason.startswith("fired"):
        return f"{row['name']} {reason}"
    often = "once" if row["triggered"] == 1 else f"{row['triggered']} times"
    return f"{row['name']} fired {often}{f': {reason}' if reason else ''}"


def short(row: Mapping[str, Any]) -> bool:
    """Whether a rule could not judge because it had too few data points."""
    return starved(row) and row["needed"] is not None and 0 < row["datapoints"] < row["needed"]


def starved(row: Mapping[str, Any]) -> bool:
    """Whether a rule could not judge, for too few data points or because something is missing."""
    return not row["judged"] and row["status"] != "Error"


def _of_profiler(outcome: Outcome) -> dict[str, Any]:
    status = outcome.status()
    spec = PROFILER_RULES.get(outcome.request.rule)
    return {
        "kind": "profiler",
        "rule": outcome.request.rule,
        "name": outcome.request.name,
        "watches": spec.watches if spec else "",
        "status": str(status.get("RuleEvaluationStatus", "")),
        "triggered": outcome.triggered,
        "violations": outcome.violations,
        "datapoints": outcome.datapoints,
        "needed": outcome.needed,
        "judged": outcome.judged,
        "reason": outcome.reason,
        "parameters": dict(outcome.request.parameters),
        "moments": [float(moment) for moment in outcome.moments],
        "steps": list(outcome.steps),
    }


def _of_debugger(status: Mapping[str, Any]) -> dict[str, Any]:
    name = str(status.get("RuleConfigurationName", ""))
    rule = str(status.get("Rule") or name)
    spec = DEBUG_RULES.get(rule)
    found = str(status.get("RuleEvaluationStatus", ""))
    parameters = status.get("Parameters")
    moments = _numbers(status.get("Times"))
    if not moments and found == FIRED:
        moments = _modified(status.get("LastModifiedTime"))
    return {
        "kind": "debugger",
        "rule": rule,
        "name": name or rule,
        "watches": spec.watches if spec else "a rule of your own",
        "status": found,
        "triggered": _count(status.get("Triggered"), least=1 if found == FIRED else 0),
        "violations": _count(status.get("Triggered"), least=1 if found == FIRED else 0),
        "datapoints": _count(status.get("Points")),
        "needed": None,
        "judged": found != "NoIssuesFound" or status.get("Points") != 0,
        "reason": str(status.get("StatusDetails") or "")
        or ("nothing that it watches was recorded" if status.get("Points") == 0 else ""),
        "parameters": dict(parameters) if isinstance(parameters, Mapping) else {},
        "moments": moments,
        "steps": [int(step) for step in _numbers(status.get("Steps"))],
    }


def _count(value: Any, least: int = 0) -> int:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return max(least, int(value)) if good else least


def _numbers(value: Any) -> list[float]:
    if not isinstance(value, list):
        return []
    return [
        float(each)
        for each in value
        if isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each)
    ]


def _modified(value: Any) -> list[float]:
    try:
        return [datetime.fromisoformat(str(value)).timestamp()]
    except ValueError:
        return []

"""The outcome of a profiler rule on a recording."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES, SCAN
from container.rules.requests import RuleRequest

FIRST = 20
"""How many of the steps and moments a rule fired at a status holds."""

NO_GPU = "no GPU metrics in this job"
MOMENTS = 1000
"""How many moments an outcome keeps."""
FIRED = "IssuesFound"
SUMMARY = "ProfilerReport"
"""The rule that only sums up what the others found; it is no row of its own."""


@dataclass(frozen=True)
class RuleOutcome:
    """The outcome of one rule, and the figures behind it.

    Attributes:
        request: the rule and its parameters.
        reason: one line in plain words.
        triggered: at how many of its looks at the recording the rule's condition held.
        violations: how many points, GPUs or steps broke its threshold.
        datapoints: how much it had to look at; the most that any node, GPU or worker has.
        needed: the data points it waits for before it judges; None if it waits for none.
        judged: whether it had what it needs; if not, `reason` says what was missing.
        moments: unix seconds at which it fired, the first ones first, at most 1,000.
        steps: numbers of the training steps it fired at, where it looks at steps.
        details: figures by node, GPU or worker, under the names SageMaker's files use; finite
            numbers, text, lists and dicts only.
        error: the traceback, if the rule itself failed.
        part_of: the name of the ProfilerReport that runs it; None if it was requested itself.
    """

    request: RuleRequest
    reason: str
    triggered: int = 0
    violations: int = 0
    datapoints: int = 0
    needed: int | None = None
    judged: bool = True
    moments: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    part_of: str | None = None

    @property
    def fired(self) -> bool:
        """Whether the rule found an issue."""
        return self.triggered > 0

    def as_json(self) -> dict[str, Any]:
        """The rule's file in `profiler-reports/`, in the shape SageMaker writes it.

        `RuleParameters` is one `name:value` a line.
        """
        parameters = (
            f"{name}:{value}" for name, value in self.request.parameters.items() if name not in SCAN
        )
        return {
            "RuleTriggered": self.triggered,
            "Violations": self.violations,
            "Details": dict(self.details),
            "Datapoints": self.datapoints,
            "RuleParameters": "\n".join(parameters),
        }

    def status(self) -> dict[str, Any]:
        """The rule's entry in `rules/profiler.json`, as of now."""
        state = "IssuesFound" if self.fired else "NoIssuesFound"
        return {
            "RuleConfigurationName": self.request.name,
            "RuleEvaluationStatus": "Error" if self.error else state,
            "StatusDetails": f"{self.reason}\n{self.error}" if self.error else self.reason,
            "LastModifiedTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "Rule": self.request.rule,
            "Parameters": dict(self.request.parameters),
            "Steps": list(self.steps[:FIRST]),
            "Times": list(self.moments[:FIRST]),
            "Triggered": self.triggered,
            "Points": self.datapoints,
        }


class Findings:
    """The findings of a rule: when it fired, and its figures by node and GPU."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.details: dict[str, Any] = {}

    def fire(self, moment: float) -> None:
        """The condition held at a moment (unix s)."""
        self.moments.append(moment)

    def describe(self, node: str, name: str, figures: dict[str, Any]) -> None:
        """Keep the figures of one GPU, or of a node's processors."""
        self.details.setdefault(node, {})[name] = figures

    def outcome(
        self,
        request: RuleRequest,
        reason: str,
        *,
        points: int,
        needed: int,
        violations: int | None = None,
    ) -> RuleOutcome:
        """All of it; every moment is a violation where `violations` does not say otherwise."""
        return RuleOutcome(
            request,
            reason,
            triggered=len(self.moments),
            violations=len(self.moments) if violations is None else violations,
            datapoints=points,
            needed=needed,
            moments=tuple(sorted(set(self.moments))[:MOMENTS]),
            details=self.details,
        )


def unjudged(
    request: RuleRequest, points: int, needed: int, none: str = NO_GPU
) -> RuleOutcome | None:
    """The outcome when there is too little to judge; None if there is enough.

    Args:
        points: how many there are.
        needed: how many the rule waits for.
        none: what to say if there are none at all.
    """
    if points == 0:
        return RuleOutcome(request, none, needed=needed, judged=False)
    if points < needed:
        reason = f"not enough data: {points} of {needed} points"
        return RuleOutcome(request, reason, datapoints=points, needed=needed, judged=False)
    return None


def rule_rows(
    outcomes: Iterable[RuleOutcome], debug_rules: Iterable[Mapping[str, Any]]
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
    """The first of these rules that fired."""
    return next(
        (dict(row) for row in rows if row["rule"] in rules and row["status"] == FIRED), None
    )


def describe(row: Mapping[str, Any]) -> str:
    """How often a rule fired and its reason, without a full stop.

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


def _of_profiler(outcome: RuleOutcome) -> dict[str, Any]:
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

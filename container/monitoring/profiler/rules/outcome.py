"""What one profiler rule has to say about a recording."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from container.rules.profiler import SCAN
from container.rules.requests import RuleRequest

FIRST = 20
"""How many of the steps and moments a rule fired at a status holds."""


@dataclass(frozen=True)
class Outcome:
    """One rule's verdict, and the figures behind it.

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
        part_of: the name of the ProfilerReport that asked for it; None if it was asked for itself.
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

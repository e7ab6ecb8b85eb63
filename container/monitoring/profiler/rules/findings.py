"""What rules over system metrics gather, and what they say when there is too little to judge."""

from typing import Any

from container.monitoring.profiler.rules.outcome import Outcome
from container.rules.requests import RuleRequest

NO_GPU = "no GPU metrics in this job"
MOMENTS = 1000
"""How many moments an outcome keeps."""


class Findings:
    """What a rule found: when it fired, and its figures by node and GPU."""

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
    ) -> Outcome:
        """All of it; every moment is a violation where `violations` does not say otherwise."""
        return Outcome(
            request,
            reason,
            triggered=len(self.moments),
            violations=len(self.moments) if violations is None else violations,
            datapoints=points,
            needed=needed,
            moments=tuple(sorted(set(self.moments))[:MOMENTS]),
            details=self.details,
        )


def unjudged(request: RuleRequest, points: int, needed: int, none: str = NO_GPU) -> Outcome | None:
    """The outcome when there is too little to judge; None if there is enough.

    Args:
        points: how many there are.
        needed: how many the rule waits for.
        none: what to say if there are none at all.
    """
    if points == 0:
        return Outcome(request, none, needed=needed, judged=False)
    if points < needed:
        reason = f"not enough data: {points} of {needed} points"
        return Outcome(request, reason, datapoints=points, needed=needed, judged=False)
    return None

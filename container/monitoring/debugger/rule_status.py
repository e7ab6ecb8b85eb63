"""The evaluation statuses of all rules, in a JSON file that is replaced atomically.

An entry has the fields of SageMaker's `DebugRuleEvaluationStatuses`, and in addition the rule's
name, its parameters, and when it fired.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from container.files.json_files import beside, replace_text, to_json
from container.rules.requests import RuleRequest

State = Literal["InProgress", "NoIssuesFound", "IssuesFound", "Error", "Stopped"]

KEPT_STEPS = 20
"""The steps an entry lists; a rule that fires more often is only counted."""


class RuleEvaluationStatus:
    """One rule's entry.

    Attributes:
        request: the rule.
        state: its RuleEvaluationStatus.
        details: the reason in one line, followed by the traceback of an error.
        steps: the first global steps it fired at, at most `KEPT_STEPS`.
        times: when those were saved, in seconds since 1970.
        triggered: number of times it fired.
        points: number of saved steps it has evaluated, or of what the rule itself counts.
    """

    def __init__(self, request: RuleRequest) -> None:
        self.request = request
        self.state: State = "InProgress"
        self.details = ""
        self.steps: list[int] = []
        self.times: list[float] = []
        self.triggered = 0
        self.points = 0
        self._changed = datetime.now(UTC)

    @property
    def failed(self) -> bool:
        """Whether its evaluation has failed."""
        return self.state == "Error"

    def fire(self, step: int, time: float, why: str) -> None:
        """Record that it fired at a global step saved at `time` (seconds since 1970)."""
        self.triggered += 1
        if len(self.steps) < KEPT_STEPS:
            self.steps.append(step)
            self.times.append(time)
        first = f"fired at step {self.steps[0]}"
        if self.triggered > 1:
            first = f"fired {self.triggered} times, first at step {self.steps[0]}, last at {step}"
        self._set("IssuesFound", f"{first}: {_one_line(why)}" if why else first)

    def fail(self, line: str, traceback: str = "") -> None:
        """Record that its evaluation failed, with a reason and a traceback."""
        fired = f" (before that it {self.details})" if self.triggered else ""
        below = f"\n{traceback.rstrip()}" if traceback else ""
        self._set("Error", f"{_one_line(line)}{fired}{below}")

    def end(self, remark: str = "") -> None:
        """Record that all steps were evaluated; a rule that never fired found no issues."""
        if self.state == "InProgress":
            self._set("NoIssuesFound", _one_line(remark))

    def stop(self, line: str) -> None:
        """Record that the job was stopped before all steps were evaluated; keeps issues found."""
        if self.state == "InProgress":
            self._set("Stopped", _one_line(line))

    def as_json(self) -> dict[str, Any]:
        """The entry in the file."""
        return {
            "RuleConfigurationName": self.request.name,
            "RuleEvaluationStatus": self.state,
            "StatusDetails": self.details,
            "LastModifiedTime": self._changed.isoformat(timespec="milliseconds"),
            "Rule": self.request.rule,
            "Parameters": dict(self.request.parameters),
            "Steps": self.steps,
            "Times": self.times,
            "Triggered": self.triggered,
            "Points": self.points,
        }

    @classmethod
    def from_json(cls, request: RuleRequest, entry: dict[str, Any]) -> "RuleEvaluationStatus":
        """The inverse of `as_json`."""
        status = cls(request)
        status.state = entry["RuleEvaluationStatus"]
        status.details = entry["StatusDetails"]
        status.steps, status.times = list(entry["Steps"]), list(entry["Times"])
        status.triggered, status.points = entry["Triggered"], entry["Points"]
        status._changed = datetime.fromisoformat(entry["LastModifiedTime"])
        return status

    def _set(self, state: State, details: str) -> None:
        self.state, self.details, self._changed = state, details, datetime.now(UTC)


class StatusFile:
    """The file with every rule's entry.

    Args:
        path: the file; its folder is made when it is written.
        requests: the rules, in the file's order.
    """

    def __init__(self, path: Path, requests: Iterable[RuleRequest]) -> None:
        self.path = path
        self.statuses = [RuleEvaluationStatus(request) for request in requests]

    def write(self) -> None:
        """Replace the file atomically: a reader sees all old entries or all new ones.

        Raises:
            OSError: it cannot be written.
        """
        replace_text(self.path, to_json(self.entries(), indent=1) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """Every rule's entry."""
        return [status.as_json() for status in self.statuses]

    def reload(self) -> None:
        """Load the statuses that another process wrote; ignores a missing or broken file."""
        entries = read_entries(self.path)
        if len(entries) == len(self.statuses):
            self.statuses = [
                RuleEvaluationStatus.from_json(status.request, entry)
                for status, entry in zip(self.statuses, entries, strict=True)
            ]

    def each(self, change: Callable[[RuleEvaluationStatus], None]) -> None:
        """Change every status that is still in progress."""
        for status in self.statuses:
            if status.state == "InProgress":
                change(status)


def read_entries(path: Path) -> Sequence[dict[str, Any]]:
    """The entries in a file of statuses; empty if the file is missing or broken."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return entries if isinstance(entries, list) else []


def drop_temporary(path: Path, pid: int) -> None:
    """Delete the temporary file of a process that was killed while it wrote `path`."""
    beside(path, pid).unlink(missing_ok=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())

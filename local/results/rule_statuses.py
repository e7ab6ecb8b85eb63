"""Statuses of a job's rules, from the job's outputs or from SageMaker."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.client.console import printable
from local.results.downloads import OUTPUT
from local.results.profiler_report import LOCAL_REPORT, STATUSES

LARGEST = 4_000_000
"""Largest file of statuses to read, in bytes; 32 rules with a traceback each have 40,000."""
REPORTED = ("IssuesFound", "Error")
"""The statuses that are printed at a job's end."""
SUMMARY_RULE = "ProfilerReport"
_KINDS = {
    "debugger": ("debug.json", "DebugRuleEvaluationStatuses"),
    "profiler": ("profiler.json", "ProfilerRuleEvaluationStatuses"),
}


@dataclass(frozen=True)
class RuleEvaluation:
    """The evaluation of one rule.

    Attributes:
        kind: debugger or profiler.
        name: name of its configuration.
        status: SageMaker's RuleEvaluationStatus.
        details: the reason in one line; may be "".
    """

    kind: str
    name: str
    status: str
    details: str

    def line(self) -> str:
        """The evaluation in one line."""
        found = "" if self.status == "IssuesFound" else f" {self.status}"
        return f"{self.name}{found}: {self.details or 'no details'}"


def rule_statuses(job: Mapping[str, Any], folder: Path | None) -> list[RuleEvaluation]:
    """The rule evaluations of a job, the debugger's first.

    The container's files take precedence over SageMaker's response, because SageMaker does not know
    the rules that a container evaluates. A locally made report takes precedence over both.

    Args:
        job: the DescribeTrainingJob response.
        folder: the job's folder with its unpacked outputs; None if there is none.
    """
    found = []
    for kind, (file, member) in _KINDS.items():
        for entry in _read(_files(folder, kind, file)) or job.get(member, []):
            status = _status(kind, entry)
            if status is not None:
                found.append(status)
    return found


def issues(statuses: list[RuleEvaluation]) -> Iterator[str]:
    """A line for each rule that found an issue or could not be evaluated.

    The rule ProfilerReport summarizes the profiler's other rules, so it only gets a line if they
    have none.
    """
    reported = [status for status in statuses if status.status in REPORTED]
    others = [status for status in reported if status.name != SUMMARY_RULE]
    counted = any(status.kind == "profiler" for status in others)
    for status in others if counted else reported:
        yield status.line()


def _files(folder: Path | None, kind: str, file: str) -> list[Path]:
    if folder is None:
        return []
    remade = [folder / LOCAL_REPORT / STATUSES] if kind == "profiler" else []
    return remade + sorted((folder / OUTPUT).rglob(f"rules/{file}"))


def _read(paths: list[Path]) -> list[Any]:
    """The statuses in the first file that exists; none if it has another format."""
    path = next((path for path in paths if path.is_file() and not path.is_symlink()), None)
    if path is None:
        return []
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else []
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _status(kind: str, entry: Any) -> RuleEvaluation | None:
    if not isinstance(entry, dict):
        return None
    name, status = entry.get("RuleConfigurationName"), entry.get("RuleEvaluationStatus")
    if not isinstance(name, str) or not isinstance(status, str):
        return None
    details = str(entry.get("StatusDetails") or "").strip().partition("\n")[0]
    return RuleEvaluation(kind, _printable(name), _printable(status), _printable(details))


def _printable(text: str) -> str:
    return printable(text).strip()

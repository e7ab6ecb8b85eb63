"""What a job's rules found: from what it left, or from what SageMaker knows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.results.downloads import OUTPUT
from local.results.profiler_report import ANEW, STATUSES

LARGEST = 4_000_000
"""Bytes of a file of statuses that is read; 32 rules with a traceback each are 40,000."""
TOLD = ("IssuesFound", "Error")
"""The statuses worth a line at a job's end."""
COUNTING = "ProfilerReport"
_KINDS = {
    "debugger": ("debug.json", "DebugRuleEvaluationStatuses"),
    "profiler": ("profiler.json", "ProfilerRuleEvaluationStatuses"),
}


@dataclass(frozen=True)
class RuleStatus:
    """What came of one rule.

    Attributes:
        kind: debugger or profiler.
        name: its configuration's.
        status: SageMaker's RuleEvaluationStatus.
        details: why, in one line; may be "".
    """

    kind: str
    name: str
    status: str
    details: str

    def line(self) -> str:
        """It in a line, for people."""
        found = "" if self.status == "IssuesFound" else f" {self.status}"
        return f"{self.name}{found}: {self.details or 'no details'}"


def rule_statuses(job: Mapping[str, Any], folder: Path | None) -> list[RuleStatus]:
    """The rules of a job, the debugger's first.

    The container's own files come first: AWS knows nothing of rules a container evaluates. Before
    those comes what a report that was made on this machine found.

    Args:
        job: DescribeTrainingJob's answer.
        folder: where its outputs were unpacked; None if they were not.
    """
    found = []
    for kind, (file, member) in _KINDS.items():
        for entry in _read(_files(folder, kind, file)) or job.get(member, []):
            status = _status(kind, entry)
            if status is not None:
                found.append(status)
    return found


def issues(statuses: list[RuleStatus]) -> Iterator[str]:
    """A line for each rule that found something, or could not be evaluated.

    The rule ProfilerReport only counts the others: it has a line where they have none.
    """
    told = [status for status in statuses if status.status in TOLD]
    others = [status for status in told if status.name != COUNTING]
    summed_up = any(status.kind == "profiler" for status in others)
    for status in others if summed_up else told:
        yield status.line()


def _files(folder: Path | None, kind: str, file: str) -> list[Path]:
    if folder is None:
        return []
    anew = [folder / ANEW / STATUSES] if kind == "profiler" else []
    return anew + sorted((folder / OUTPUT).rglob(f"rules/{file}"))


def _read(paths: list[Path]) -> list[Any]:
    """The statuses in the first file that is there; none if it holds anything else."""
    path = next((path for path in paths if path.is_file() and not path.is_symlink()), None)
    if path is None:
        return []
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else []
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _status(kind: str, entry: Any) -> RuleStatus | None:
    if not isinstance(entry, dict):
        return None
    name, status = entry.get("RuleConfigurationName"), entry.get("RuleEvaluationStatus")
    if not isinstance(name, str) or not isinstance(status, str):
        return None
    details = str(entry.get("StatusDetails") or "").strip().partition("\n")[0]
    return RuleStatus(kind, _plain(name), _plain(status), _plain(details))


def _plain(text: str) -> str:
    """What a terminal shows as it stands."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(mark if mark.isprintable() else " " for mark in whole).strip()

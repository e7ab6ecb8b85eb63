"""The statuses of a job's rules, from its request and its container.

A container that evaluates rules writes their statuses to `output/data/rules/debug.json` and
`profiler.json`. The files are not trusted: they may be missing, truncated, links or invalid, and
only values that are valid in the API are used.
"""

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = ("output", "data", "rules")
"""The folder of the statuses in a host's tree."""
LARGEST = 1_000_000
"""Largest file of statuses to read, in bytes; 32 rules with a traceback each have 40,000."""
MOST = 20
"""Most statuses of a kind in a response (API reference)."""
NAME_LENGTH, DETAILS_LENGTH = 256, 1024
"""Most characters in a RuleConfigurationName and in StatusDetails (API reference)."""
STATUSES = ("IssuesFound", "Error", "Stopped", "Stopping", "InProgress", "NoIssuesFound")
"""Every RuleEvaluationStatus, the most important first."""
WATCHED = {"Training", "Stopping"}
"""Secondary statuses in which a container may be running."""
STOPPED_BY_RULE = "stopped"
"""The file next to the statuses with the name of the rule that stopped training."""
NOTHING = (
    "the container evaluated no such rules: its debugger or profiler is off (hyperparameters "
    "debug and profile), or its image does not have berth's rules"
)

Status = dict[str, Any]
RuleStatuses = dict[str, list[Status]]
"""The members of a DescribeTrainingJob response that hold rules' statuses."""


@dataclass(frozen=True)
class RuleKind:
    """Debugger or profiler rules: their members in requests and responses, and their file."""

    configurations: str
    statuses: str
    file: str


KINDS = (
    RuleKind("DebugRuleConfigurations", "DebugRuleEvaluationStatuses", "debug.json"),
    RuleKind("ProfilerRuleConfigurations", "ProfilerRuleEvaluationStatuses", "profiler.json"),
)


def rules_requested(request: dict[str, Any], arn: str, now: datetime) -> RuleStatuses:
    """The statuses right after CreateTrainingJob: every rule is in progress.

    Args:
        request: the CreateTrainingJob request.
        arn: the job's ARN.
        now: the time of the request.
    """
    return {
        kind.statuses: [
            _status(configuration["RuleConfigurationName"], "InProgress", arn, now)
            for configuration in request[kind.configurations]
        ]
        for kind in KINDS
        if request.get(kind.configurations)
    }


def rules_now(body: dict[str, Any], tree: Path, now: datetime) -> RuleStatuses:
    """The statuses of a running job: those in its body, updated with the container's.

    Args:
        body: the stored Describe response.
        tree: the first host's `/opt/ml`.
        now: the current time, which is the latest allowed time of a status.
    """
    known = _known(body, tree, now)
    # The job is not being stopped, so a container that stops its rules is being interrupted.
    return _resumed(known) if body["SecondaryStatus"] == "Training" else known


def rules_interrupted(body: dict[str, Any], tree: Path, now: datetime) -> RuleStatuses:
    """The statuses between two attempts: rules that stopped with the first are in progress."""
    return _resumed(_known(body, tree, now))


def rules_ended(body: dict[str, Any], tree: Path, how: str, now: datetime) -> RuleStatuses:
    """The final statuses, after the containers have ended.

    Args:
        body: the stored Describe response.
        tree: the first host's `/opt/ml`.
        how: the job's final TrainingJobStatus.
        now: when it ended.
    """
    known = _known(body, tree, now)
    for kind in KINDS:
        reported = {one["RuleConfigurationName"] for one in _reported(tree, kind.file, body, now)}
        for status in known.get(kind.statuses, []):
            if status["RuleEvaluationStatus"] not in ("InProgress", "Stopping"):
                continue
            result, details = "Error", "the container ended before it evaluated this rule"
            if how == "Stopped":
                result, details = "Stopped", "the job was stopped before this rule was evaluated"
            elif how == "Failed":
                details = "the job failed before this rule was evaluated"
            elif not reported:
                details = NOTHING
            elif status["RuleConfigurationName"] not in reported:
                details = "the container evaluated other rules, but not this one"
            status |= {
                "RuleEvaluationStatus": result,
                "StatusDetails": details,
                "LastModifiedTime": now,
            }
    return known


def stopped_by_rule(request: dict[str, Any], tree: Path) -> bool:
    """Whether a debugger rule of the request stopped training.

    Args:
        request: the CreateTrainingJob request.
        tree: the first host's `/opt/ml`.
    """
    return bool(
        request.get("DebugRuleConfigurations") and _read(tree, (*FOLDER, STOPPED_BY_RULE))[0]
    )


def _known(body: dict[str, Any], tree: Path, now: datetime) -> RuleStatuses:
    """The body's statuses, updated with the container's; IssuesFound is never replaced."""
    known = {}
    for kind in KINDS:
        statuses = {one["RuleConfigurationName"]: one for one in body.get(kind.statuses, [])}
        if body["SecondaryStatus"] in WATCHED:
            for reported in _reported(tree, kind.file, body, now):
                before = statuses.get(reported["RuleConfigurationName"], reported)
                found = before["RuleEvaluationStatus"] == "IssuesFound"
                if not found or reported["RuleEvaluationStatus"] == "IssuesFound":
                    statuses[reported["RuleConfigurationName"]] = reported
        if statuses:
            known[kind.statuses] = _clipped(list(statuses.values()))
    return known


def _resumed(known: RuleStatuses) -> RuleStatuses:
    for status in (one for statuses in known.values() for one in statuses):
        if status["RuleEvaluationStatus"] in ("Stopped", "Stopping"):
            status["RuleEvaluationStatus"] = "InProgress"
            status.pop("StatusDetails", None)
    return known


def _reported(tree: Path, file: str, body: dict[str, Any], now: datetime) -> list[Status]:
    """The container's valid statuses, adapted to the API."""
    content, written = _read(tree, (*FOLDER, file))
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        return []
    if not isinstance(entries, list):
        return []
    found = [_fit(entry, written, body, now) for entry in entries]
    return [entry for entry in found if entry is not None]


def _fit(entry: Any, written: datetime, body: dict[str, Any], now: datetime) -> Status | None:
    """Adapt a status to the API; None if it is invalid."""
    if not isinstance(entry, dict):
        return None
    name, status = entry.get("RuleConfigurationName"), entry.get("RuleEvaluationStatus")
    if not isinstance(name, str) or not isinstance(status, str) or status not in STATUSES:
        return None
    name = _plain(name).replace("\n", " ")
    if not 1 <= len(name) <= NAME_LENGTH:
        return None
    modified = _time(entry.get("LastModifiedTime")) or written
    modified = min(max(modified, body["CreationTime"]), now)
    fitted = _status(name, status, body["TrainingJobArn"], modified)
    details = entry.get("StatusDetails")
    if isinstance(details, str) and details:
        fitted["StatusDetails"] = _plain(details[: 2 * DETAILS_LENGTH])[:DETAILS_LENGTH]
    return fitted


def _status(name: str, status: str, arn: str, modified: datetime) -> Status:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluationJobArn": _evaluation_arn(arn, name),
        "RuleEvaluationStatus": status,
        "LastModifiedTime": modified,
    }


def _evaluation_arn(arn: str, rule: str) -> str:
    """The ARN of AWS's processing job for a rule, named after the job and the rule."""
    prefix, job = arn.split(":training-job/")
    slug = re.sub(r"[^a-z0-9]+", "-", rule.lower())
    mark = hashlib.sha256(f"{job}/{rule}".encode(errors="replace")).hexdigest()[:8]
    parts = [part for part in (job[:26].strip("-"), slug[:26].strip("-"), mark) if part]
    return f"{prefix}:processing-job/{'-'.join(parts)}"


def _clipped(statuses: list[Status]) -> list[Status]:
    """The most important statuses, at most as many as a response may have."""
    if len(statuses) <= MOST:
        return statuses
    ranked = sorted(statuses, key=lambda one: STATUSES.index(one["RuleEvaluationStatus"]))
    return [one for one in statuses if one in ranked[:MOST]]


def _plain(text: str) -> str:
    """Text without lone surrogates and without control characters other than newlines and tabs."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(mark for mark in whole if mark.isprintable() or mark in "\n\t")


def _time(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _read(base: Path, names: tuple[str, ...]) -> tuple[bytes, datetime]:
    """The content and modification time of a small regular file below `base`.

    It is empty for a missing or unreadable file, for links, and for other kinds of files.
    """
    nothing = b"", datetime.now(UTC)
    opened: list[int] = []
    inside = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        opened.append(os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in names[:-1]:
            opened.append(os.open(name, inside | os.O_DIRECTORY, dir_fd=opened[-1]))
        opened.append(os.open(names[-1], inside, dir_fd=opened[-1]))
        facts = os.fstat(opened[-1])
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
            return nothing
        with os.fdopen(opened.pop(), "rb") as file:
            return file.read(LARGEST), datetime.fromtimestamp(facts.st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return nothing
    finally:
        for descriptor in opened:
            os.close(descriptor)

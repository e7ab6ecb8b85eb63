"""Every rule that was evaluated: what it looks for, what it found, when it fired."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from container.monitoring.profiler.outcome import FIRED, short, starved
from container.monitoring.profiler.report.context import Link, ReportContext, anchor
from container.monitoring.profiler.report.rule_guide import guide
from container.monitoring.profiler.units import count, plain

LONGEST = 6000
"""Letters of a rule's details that the page shows; its file has them all."""
STATUSES = {
    "NoIssuesFound": ("no issues", "quiet"),
    "InProgress": ("in progress", ""),
    "Error": ("error", "fired"),
    "Stopped": ("stopped", ""),
}
"""By SageMaker's status: its words on the page, and their class."""


def rules(report: ReportContext) -> dict[str, Any]:
    """The rules, those that fired most first; each unfolds."""
    rows = report.metrics.rules
    details = {outcome.request.name: outcome.details for outcome in report.metrics.outcomes}
    report.data["rules"] = rows
    return {
        "fired": sum(row["status"] == FIRED for row in rows),
        "kinds": {row["kind"] for row in rows},
        "rules": [_rule(report, row, details.get(row["name"], {})) for row in rows],
    }


def data_points(row: Mapping[str, Any]) -> str:
    """How much a rule looked at: never a bare zero where it wanted more."""
    if short(row):
        return f"not enough data: {count(row['datapoints'])} of {count(row['needed'])} points"
    if starved(row) and not row["datapoints"]:
        return "nothing to judge"
    return f"{count(row['datapoints'])} data points"


def findings(report: ReportContext, rule: str) -> list[dict[str, Any]]:
    """What a profiler rule found, each time it was evaluated, for the section on its question."""
    return [
        {
            "link": report.rule_links([row["name"]])[0],
            "reason": str(row["reason"]).partition("\n")[0] or "nothing to say",
            "points": data_points(row) if starved(row) else "",
        }
        for row in report.metrics.rules
        if row["rule"] == rule and row["kind"] == "profiler"
    ]


def _rule(
    report: ReportContext, row: Mapping[str, Any], details: Mapping[str, Any]
) -> dict[str, Any]:
    purpose, remedy = guide(row["rule"])
    status, status_class = _status(row)
    fired = row["status"] == FIRED
    reason, _, trace = str(row["reason"]).strip().partition("\n")
    moments = list(_moments(report, row)) if fired else []
    parameters = ", ".join(f"{name}={plain(each)}" for name, each in row["parameters"].items())
    return {
        "anchor": anchor("rule", row["kind"], row["name"]),
        "name": row["name"],
        "kind": row["kind"],
        "open": fired or row["status"] == "Error",
        "fired": fired,
        "status": status,
        "status_class": status_class,
        "times": _times(row["triggered"]),
        "points": data_points(row),
        "reason": reason,
        "trace": trace,
        "purpose": purpose,
        "remedy": remedy,
        "moments": moments,
        "more": max(0, row["triggered"] - len(moments)),
        "parameters": parameters,
        "details": _details(details) if details and row["kind"] == "profiler" else "",
    }


def _status(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["status"] == FIRED:
        return "issues found", "fired"
    if starved(row):
        return ("not enough data" if short(row) else "not judged"), "starved"
    return STATUSES.get(row["status"], (row["status"] or "unknown", ""))


def _times(triggered: int) -> str:
    return "fired once" if triggered == 1 else f"fired {count(triggered)} ×" if triggered else "–"


def _moments(report: ReportContext, row: Mapping[str, Any]) -> Iterator[Link]:
    """Links to where the rule's moments are marked: in time, or in steps; no target for neither."""
    for each in report.moments:
        if each["rule"] != row["name"] or each["kind"] != row["kind"]:
            continue
        step = each["step"]
        if each["kind"] == "debugger" and step is not None and len(report.metrics.recording.curves):
            yield Link(anchor("step", row["name"], step), f"step {count(step)}")
        elif each["time"] is not None:
            yield Link(each["anchor"], report.at(each["time"]))
        else:
            yield Link("", f"step {count(step)}")


def _details(details: Mapping[str, Any]) -> str:
    shown = json.dumps(details, indent=2, default=str, ensure_ascii=False)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}\n… the rest is in profiler-reports/"
    return shown

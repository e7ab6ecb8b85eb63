"""Every rule that was evaluated: what it looks for, what it found, when it fired."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from container.monitoring.profiler.outcome import FIRED, short, starved
from container.monitoring.profiler.report.markup import Html, join, missing, note, tag
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.page import anchor, link
from container.monitoring.profiler.report.texts import RULES_NOTE, words
from container.monitoring.profiler.units import count

LONGEST = 6000
"""Letters of a rule's details that the page shows; its file has them all."""
QUIET = "NoIssuesFound"


def rules(material: Material) -> Iterator[Html]:
    """The rules, those that fired most first; each unfolds."""
    rows = material.figures.rules
    details = {outcome.request.name: outcome.details for outcome in material.figures.outcomes}
    material.data["rules"] = rows
    if not rows:
        yield missing("No rules:", "none was evaluated for this job.")
        return
    number = sum(row["status"] == FIRED for row in rows)
    yield note(f"{number} of {len(rows)} fired. ", RULES_NOTE)
    for kind in ("profiler", "debugger"):
        if not any(row["kind"] == kind for row in rows):
            why = (
                "debug=true evaluates them while training runs."
                if kind == "debugger"
                else "none was asked for."
            )
            yield missing(f"No {kind} rules:", why)
    for row in rows:
        yield _rule(material, row, details.get(row["name"], {}))


def _rule(material: Material, row: Mapping[str, Any], details: Mapping[str, Any]) -> Html:
    looks, advice = words(row["rule"])
    word, class_ = _status(row)
    fired = row["status"] == FIRED
    summary = tag(
        "summary",
        tag("span", tag("b", row["name"]), tag("span", row["kind"], class_="kind")),
        tag("span", word, class_=f"status {class_}"),
        tag("span", _times(row["triggered"])),
        tag("span", points(row), class_="soft"),
    )
    first, _, trace = str(row["reason"]).strip().partition("\n")
    body = [
        tag("p", tag("b", first)) if first else "",
        tag("pre", trace) if trace else "",
        tag("p", looks),
        tag("p", tag("span", "When it fires: ", class_="soft"), advice),
        _moments(material, row) if fired else "",
        _parameters(row["parameters"]),
        _details(details) if row["kind"] == "profiler" else "",
    ]
    return tag(
        "details",
        summary,
        tag("div", *body, class_="body"),
        class_="rule",
        id=anchor("rule", row["kind"], row["name"]),
        open="open" if fired or row["status"] == "Error" else None,
    )


def points(row: Mapping[str, Any]) -> str:
    """How much a rule looked at: never a bare zero where it wanted more."""
    if short(row):
        return f"not enough data: {count(row['datapoints'])} of {count(row['needed'])} points"
    if starved(row) and not row["datapoints"]:
        return "nothing to judge"
    return f"{count(row['datapoints'])} data points"


def _status(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["status"] == FIRED:
        return "issues found", "fired"
    if starved(row):
        return ("not enough data" if short(row) else "not judged"), "starved"
    if row["status"] == QUIET:
        return "no issues", "quiet"
    shown = {"InProgress": "in progress", "Error": "error", "Stopped": "stopped"}
    return shown.get(row["status"], row["status"] or "unknown"), (
        "fired" if row["status"] == "Error" else ""
    )


def _times(triggered: int) -> str:
    return "fired once" if triggered == 1 else f"fired {count(triggered)} ×" if triggered else "–"


def _moments(material: Material, row: Mapping[str, Any]) -> Html:
    """Links to where the rule's moments are marked: in time, or in steps."""
    mine = [m for m in material.moments if m["rule"] == row["name"] and m["kind"] == row["kind"]]
    if not mine:
        return tag("p", "No moment was recorded for it.", class_="soft")
    items: list[object] = []
    for each in mine:
        if each["kind"] == "debugger" and each["step"] is not None and len(_curves(material)):
            target = anchor("step", row["name"], each["step"])
            items.append(link(target, f"step {count(each['step'])}"))
        elif each["time"] is not None:
            items.append(link(each["anchor"], material.at(each["time"])))
        else:
            items.append(f"step {count(each['step'])}")
    listed = join(tag("li", item) for item in items)
    more = row["triggered"] - len(mine)
    rest = tag("li", f"{count(more)} more", class_="soft") if more > 0 else ""
    return tag("ul", tag("li", "Fired at", class_="label"), listed, rest, class_="moments")


def _curves(material: Material) -> Any:
    return material.figures.recording.curves


def _parameters(parameters: Mapping[str, Any]) -> Html:
    if not parameters:
        return Html("")
    shown = ", ".join(f"{name}={_plain(value)}" for name, value in parameters.items())
    return tag("p", tag("span", "Parameters: ", class_="soft"), tag("code", shown))


def _details(details: Mapping[str, Any]) -> Html:
    if not details:
        return Html("")
    shown = json.dumps(details, indent=2, default=str, ensure_ascii=False)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}\n… the rest is in profiler-reports/"
    return tag("details", tag("summary", "Details"), tag("pre", shown), class_="more")


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)

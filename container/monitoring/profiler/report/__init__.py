"""Writes the profiler's report: a self-contained HTML file, and all figures as report.json.

python -m container.monitoring.profiler.report FOLDER --into DIR
"""

import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup

from container.files.json_files import replace_text, to_json
from container.monitoring.profiler import units
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.report.bottlenecks import (
    batch_size,
    cpu,
    data_loading,
    gpu_memory,
    gpu_use,
    io,
)
from container.monitoring.profiler.report.context import ReportContext
from container.monitoring.profiler.report.framework import balance, framework, steps
from container.monitoring.profiler.report.learning import learning
from container.monitoring.profiler.report.overview import gaps, summary, title, verdict
from container.monitoring.profiler.report.rules import rules as rules_section
from container.monitoring.profiler.report.system import system
from container.monitoring.profiler.rules import evaluate
from container.pages.environment import environment
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleRequest, parse_rules

HTML, FIGURES, REPORTS = "profiler-report.html", "report.json", "profiler-reports"
STATUSES = "profiler-rules.json"
"""The statuses of all rules, including those that a ProfilerReport runs."""

Part = tuple[str, Callable[[ReportContext], dict[str, Any]]]
"""A template, and the function that gives what it shows."""


class Section(NamedTuple):
    """A section of the page: its id, its heading, and the parts it is made of."""

    anchor: str
    title: str
    parts: tuple[Part, ...]


SECTIONS = (
    Section("summary", "Training job summary", (("summary.html", summary),)),
    Section("system", "System usage statistics", (("system.html", system),)),
    Section("framework", "Framework metrics summary", (("framework.html", framework),)),
    Section("rules", "Rules summary", (("rules.html", rules_section),)),
    Section(
        "loop",
        "Analysing the training loop",
        # SageMaker's own order.
        (
            ("steps.html", steps),
            ("gpu_use.html", gpu_use),
            ("balance.html", balance),
            ("data_loading.html", data_loading),
            ("batch_size.html", batch_size),
            ("bottleneck.html", cpu),
            ("bottleneck.html", io),
            ("gpu_memory.html", gpu_memory),
        ),
    ),
    Section("learning", "Learning curves", (("learning.html", learning),)),
    Section("missing", "What was not recorded", (("gaps.html", gaps),)),
)
"""The title and the verdict come before, as number 1."""


class WrittenReport(NamedTuple):
    """A report that was written.

    Attributes:
        page: the HTML file.
        verdict: the verdict's first sentence; "" if the verdict failed.
        statuses: the statuses of the requested rules, without those that a ProfilerReport runs.
    """

    page: Path
    verdict: str
    statuses: list[dict[str, Any]]


def write_report(
    folder: Path,
    into: Path,
    rules: Sequence[RuleRequest] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> WrittenReport:
    """Read a job's profile, judge it, and write the report.

    Writes `profiler-report.html`, `report.json`, `profiler-reports/<Rule>.json` and the rules'
    statuses. A section that fails shows its error in its place; of the files, only the HTML must
    succeed.

    Args:
        folder: what `Recording.read` takes.
        into: the folder the report goes into.
        rules: profiler rules to evaluate; by default all, as SageMaker's defaults have them.
        say: where progress goes, a line at a time.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: the HTML cannot be written.
    """
    say(f"reading {folder}")
    recording = Recording.read(folder)
    say(
        f"read {len(recording.system):,} samples and {len(recording.events):,} events; "
        "evaluating rules"
    )
    requests = parse_rules(PROFILER_RULES, ["auto"]) if rules is None else tuple(rules)
    metrics = ProfileMetrics(recording)
    outcomes = evaluate(recording, requests, metrics)
    say("writing")
    report = ReportContext(metrics.with_outcomes(outcomes))
    page = into / HTML
    replace_text(page, render(report))
    charts = {name: spec["data"] for name, spec in report.charts.specs.items()}
    _try_to_write(into / FIGURES, {**report.data, "charts": charts}, say)
    for outcome in outcomes:
        path = into / REPORTS / f"{_file_name(outcome.request.name)}.json"
        if not _try_to_write(path, outcome.as_json(), say):
            break
    statuses = [outcome.status() for outcome in outcomes]
    _try_to_write(into / STATUSES, statuses, say)
    sentences = report.data.get("verdict", {}).get("sentences", [""])
    requested = [
        status
        for outcome, status in zip(outcomes, statuses, strict=True)
        if outcome.part_of is None
    ]
    return WrittenReport(page, sentences[0], requested)


def render(report: ReportContext) -> str:
    """The HTML of a report; fills the report's charts and data."""
    header = _content("The title", [("title.html", title)], report)
    judged = _content("The verdict", [("verdict.html", verdict)], report)
    sections = [
        {"anchor": anchor, "title": name, "content": _content(name, parts, report)}
        for anchor, name, parts in SECTIONS
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            name=report.data.get("job", {}).get("job") or "training job",
            title=header,
            verdict=judged,
            tone=report.data.get("verdict", {}).get("tone", "unknown"),
            sections=sections,
            charts=report.charts.specs,
        )
    )


def _content(name: str, parts: Iterable[Part], report: ReportContext) -> Markup:
    """A section's HTML; a part that fails shows its error, which report.json has in full."""
    shown = []
    for template, function in parts:
        try:
            content = _environment().get_template(template).render(function(report))
        except Exception as error:
            report.data.setdefault("failures", {})[name] = traceback.format_exc()
            line = f"{type(error).__name__}: {error}".partition("\n")[0]
            content = _environment().get_template("failure.html").render(name=name, error=line)
        shown.append(Markup(content))  # noqa: S704  the templates escape
    return Markup("").join(shown)


@cache
def _environment() -> Environment:
    shown = ("count", "factor", "percent", "seconds")
    return environment(__name__, {name: getattr(units, name) for name in shown})


def _try_to_write(path: Path, value: Any, say: Callable[[str], None]) -> bool:
    """Write a JSON file, whole or not at all; an error is a line of progress."""
    try:
        replace_text(path, to_json(value, indent=1))
    except OSError as error:
        say(f"profiler report: {error.filename or 'a file'}: {error.strerror or error}")
        return False
    return True


def _file_name(rule: str) -> str:
    """A file name for a rule."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", rule).lstrip(".")[:100] or "rule"

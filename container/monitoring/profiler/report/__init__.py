"""The profiler's report: one HTML file that needs no network, and every figure in report.json.

python -m container.monitoring.profiler.report FOLDER --into DIR
"""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from container.files.json_files import replace_text
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.outcome import RuleOutcome
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.report.markup import Html, join, tag
from container.monitoring.profiler.report.material import Material, Section
from container.monitoring.profiler.report.page import document, link, listing
from container.monitoring.profiler.report.sections.framework import framework
from container.monitoring.profiler.report.sections.gaps import gaps
from container.monitoring.profiler.report.sections.learning import learning
from container.monitoring.profiler.report.sections.loop import loop
from container.monitoring.profiler.report.sections.opening import judgement, title
from container.monitoring.profiler.report.sections.rules import rules as rules_section
from container.monitoring.profiler.report.sections.summary import summary
from container.monitoring.profiler.report.sections.system import system
from container.monitoring.profiler.report.writing import attempt, file_name, write_json
from container.monitoring.profiler.rules import evaluate
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleRequest, ask

HTML, FIGURES, REPORTS = "profiler-report.html", "report.json", "profiler-reports"
STATUSES = "profiler-rules.json"
"""The rules' statuses, unless they are to go elsewhere."""

SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("summary", "Training job summary", summary),
    ("system", "System usage statistics", system),
    ("framework", "Framework metrics summary", framework),
    ("rules", "Rules summary", rules_section),
    ("loop", "Analysing the training loop", loop),
    ("learning", "Learning curves", learning),
    ("missing", "What was not recorded", gaps),
)
"""Anchor, title and contents; the title and the verdict come before, as number 1."""


def write_report(
    folder: Path,
    into: Path,
    rules: Sequence[RuleRequest] | None = None,
    say: Callable[[str], None] = lambda _: None,
    statuses: Path | None = None,
) -> Path:
    """Read a job's profile, judge it, and write the report.

    Writes `profiler-report.html`, `report.json`, `profiler-reports/<Rule>.json` and the rules'
    statuses. A section that fails says so in its place; of the files, only the HTML must succeed.

    Args:
        folder: what `Recording.read` takes.
        into: the folder the report goes into.
        rules: profiler rules to evaluate; by default all, as SageMaker's defaults have them.
        say: where progress goes, a line at a time.
        statuses: the file for the rules' statuses; by default one beside the report.

    Returns:
        The HTML file.

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
    asked = ask(PROFILER_RULES, ["auto"]) if rules is None else tuple(rules)
    outcomes = evaluate(recording, asked)
    say("writing")
    return write_outcomes(recording, outcomes, into, say, statuses)


def write_outcomes(
    recording: Recording,
    outcomes: Sequence[RuleOutcome],
    into: Path,
    say: Callable[[str], None] = lambda _: None,
    statuses: Path | None = None,
) -> Path:
    """The same for a recording whose rules have been evaluated already."""
    material = Material(ProfileMetrics(recording, outcomes))
    page = into / HTML
    content = render(material)
    replace_text(page, content)
    charts = {name: spec["data"] for name, spec in material.charts.specs.items()}
    figures = {**material.data, "charts": charts}
    attempt(lambda: write_json(into / FIGURES, figures), say)
    for outcome in outcomes:
        path = into / REPORTS / f"{file_name(outcome.request.name)}.json"
        if not attempt(lambda path=path, o=outcome: write_json(path, o.as_json()), say):  # type: ignore[misc]
            break
    found = [outcome.status() for outcome in outcomes]
    attempt(lambda: write_json(statuses or into / STATUSES, found), say)
    return page


def render(material: Material) -> str:
    """The HTML of a report; fills the material's charts and data."""
    header = tag("header", _built("The title", title, material))
    blocks = [
        tag(
            "section",
            _built("The verdict", judgement, material),
            id="verdict",
            class_=f"verdict {_tone(material)}",
        )
    ]
    for number, (anchor, name, section) in enumerate(SECTIONS, 2):
        heading = tag("h2", tag("span", str(number), class_="no"), name)
        blocks.append(tag("section", heading, _built(name, section, material), id=anchor))
    footer = tag(
        "footer",
        "Everything in this report is in report.json as well, and each rule’s findings in "
        "profiler-reports/. Charts by Plotly.js, which is part of this file.",
    )
    main = tag("main", *blocks, footer)
    body = tag("div", header, _contents(), main, class_="frame")
    name = material.data.get("job", {}).get("job") or "training job"
    return document(f"{name} – profiler report", body, material.charts.specs)


def _contents() -> Html:
    """Links to the sections."""
    entries: list[object] = [link("verdict", "Verdict")]
    entries += [link(anchor, name) for anchor, name, _ in SECTIONS]
    return tag("nav", listing(entries), aria_label="Contents")


def _built(name: str, section: Section, material: Material) -> Html:
    """A section's HTML, as far as it came; what stopped it is said and kept in report.json."""
    parts: list[Html] = []
    try:
        parts.extend(section(material))
    except Exception as error:
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
        material.data.setdefault("failures", {})[name] = traceback.format_exc()
        said = f"{name} could not be completed ({line}). The rest of the report is not affected."
        parts.append(tag("p", said, class_="broken"))
    return join(parts)


def _tone(material: Material) -> str:
    try:
        return material.verdict.tone
    except Exception:  # said in the verdict's place
        return "unknown"

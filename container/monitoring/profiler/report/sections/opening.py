"""The title, the disclaimer and the verdict."""

from collections.abc import Iterator
from typing import Any

from container.monitoring.profiler.advice import Recommendation
from container.monitoring.profiler.report.colours import phase
from container.monitoring.profiler.report.markup import Html, Share, bar, join, note, tag
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.page import link, listing
from container.monitoring.profiler.units import count, factor, moment, seconds

DISCLAIMER = (
    "Figures are what the job recorded of itself. Gains are what the formula beside them gives for "
    "these figures, at best and one change at a time: make the change, run again, compare."
)


def title(material: Material) -> Iterator[Html]:
    """The job's name, its facts at a glance, and what to make of it all."""
    job = material.figures.job
    yield tag("p", "Training job · profiler report", class_="eyebrow")
    yield tag("h1", job["job"] or "Unnamed training job")
    chips = [
        ("", moment(job["started"]) if job["started"] else ""),
        ("", seconds(job["duration"]) if job["duration"] else ""),
        ("", job["device"] or ""),
        *_counted("host", len(job["hosts"])),
        *_counted("process", job["world"]),
        *_counted("core", job["cores"]),
        ("batch_size ", count(job["batch_size"]) if job["batch_size"] else ""),
        ("workers ", count(job["workers"]) if job["workers"] is not None else ""),
        ("image_size ", count(job["image_size"]) if job["image_size"] else ""),
    ]
    yield tag(
        "ul",
        join(tag("li", name, tag("b", value)) for name, value in chips if value),
        class_="chips",
    )
    yield note(DISCLAIMER)
    yield Html(
        '<noscript><p class="missing">Charts need JavaScript; every figure is in the tables and '
        "in report.json as well.</p></noscript>"
    )
    problems = len(material.figures.recording.problems)
    if problems:
        noun = "remark" if problems == 1 else "remarks"
        yield note(link("missing", f"{problems} {noun}"), " on what was recorded.")


def judgement(material: Material) -> Iterator[Html]:
    """The verdict: its first sentence as a heading, the rest, the step's make-up, the advice."""
    found = material.verdict
    material.data["verdict"] = found.as_json()
    yield tag("p", WORDS[found.tone], class_="eyebrow")
    yield tag("h2", found.sentences[0])
    if found.sentences[1:]:
        yield listing(list(found.sentences[1:]), class_="said")
    phases = material.figures.framework["phases"]
    if phases:
        yield tag("h4", "Where a training step’s time goes")
        yield bar(
            [
                Share(row["phase"], row["share"] or 0.0, phase(row["phase"]), _per_step(row))
                for row in phases
            ],
            "a training step",
        )
    for kind, words in (
        ("learning", "To learn better"),
        ("speed", "To train faster"),
        ("price", "At a price"),
    ):
        cards = [_card(each, material) for each in found.recommendations if each.kind == kind]
        if cards and kind == "price":
            summary = tag("summary", f"{words}: {len(cards)} more, each with a drawback")
            inner = tag("div", *cards, class_="advice")
            yield tag("details", summary, inner, class_="more price")
        elif cards:
            yield tag("h4", words)
            yield tag("div", *cards, class_="advice")


WORDS = {
    "healthy": "Verdict: healthy",
    "improvable": "Verdict: there is time to gain",
    "troubled": "Verdict: learning is in trouble",
    "unknown": "Verdict: too little recorded to tell",
}


def _card(each: Recommendation, material: Material) -> Html:
    was = "" if each.current is None else tag("span", _plain(each.current), class_="was")
    arrow = "" if each.current is None else tag("span", "→", class_="was")
    change = tag(
        "p",
        tag("b", each.hyperparameter),
        was,
        arrow,
        tag("span", _plain(each.to), class_="to"),
        tag("span", factor(each.factor), class_="worth") if each.factor else "",
        class_="change",
    )
    also = tag("p", "with ", tag("code", each.also)) if each.also else ""
    rules = material.linked(each.rules)
    found = [part for rule in rules for part in (", ", rule)][1:]
    return tag(
        "article",
        change,
        also,
        tag("p", _sentence(each.why)),
        tag("p", tag("span", "Expect: ", class_="soft"), _sentence(each.expected_gain, up=False)),
        tag("p", each.formula, class_="formula") if each.formula else "",
        tag("p", tag("span", "Found by ", class_="soft"), *found) if found else "",
        class_="card",
    )


def _counted(noun: str, value: float | None) -> list[tuple[str, str]]:
    if not value:
        return []
    plural = "es" if noun.endswith("s") else "s"
    return [("", f"{count(value)} {noun}{'' if value == 1 else plural}")]


def _per_step(row: dict[str, Any]) -> str:
    return seconds(row["median"]) if row["median"] is not None else ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(words: str, up: bool = True) -> str:
    return f"{words[:1].upper() if up else words[:1]}{words[1:].rstrip('.')}."

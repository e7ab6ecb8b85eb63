"""The title, the verdict, the job's summary, and gaps in the recording."""

from typing import Any

from container.monitoring.profiler.advice import Recommendation
from container.monitoring.profiler.report.context import ReportContext, Share
from container.monitoring.profiler.units import count, moment, percent, plain, seconds
from container.pages.charts import colour

VERDICTS = {
    "healthy": "Verdict: healthy",
    "improvable": "Verdict: there is time to gain",
    "troubled": "Verdict: learning is in trouble",
    "unknown": "Verdict: too little recorded to tell",
}
KINDS = {"learning": "To learn better", "speed": "To train faster", "price": "At a price"}
"""Headings of the recommendations, by their kind."""
PARTS = {
    "initialisation": "until the first step: reading data, building the network, compiling",
    "training loop": "training steps, validation and checkpoints",
    "finalisation": "after the last step: the artifact, its export and its evaluation",
}


def title(report: ReportContext) -> dict[str, Any]:
    """The job's name and its facts at a glance."""
    job = report.metrics.job
    chips = [
        ("", moment(job["started"]) if job["started"] else ""),
        ("", seconds(job["duration"]) if job["duration"] else ""),
        ("", job["device"] or ""),
        ("", _counted("host", "hosts", len(job["hosts"]))),
        ("", _counted("process", "processes", job["world"])),
        ("", _counted("core", "cores", job["cores"])),
        ("batch_size", count(job["batch_size"]) if job["batch_size"] else ""),
        ("workers", count(job["workers"]) if job["workers"] is not None else ""),
        ("image_size", count(job["image_size"]) if job["image_size"] else ""),
    ]
    return {
        "job": job["job"] or "Unnamed training job",
        "chips": [(name, value) for name, value in chips if value],
        "problems": len(report.metrics.recording.problems),
    }


def verdict(report: ReportContext) -> dict[str, Any]:
    """The verdict's sentences, the step's make-up, and the recommendations by kind."""
    found = report.verdict
    report.data["verdict"] = found.as_json()
    return {
        "label": VERDICTS[found.tone],
        "sentences": found.sentences,
        "phases": [
            Share(
                row["phase"],
                row["share"] or 0.0,
                colour("phase", row["phase"]),
                "" if row["median"] is None else seconds(row["median"]),
            )
            for row in report.metrics.framework["phases"]
        ],
        "kinds": [
            (kind, heading, cards)
            for kind, heading in KINDS.items()
            if (cards := [_card(r, report) for r in found.recommendations if r.kind == kind])
        ],
    }


def summary(report: ReportContext) -> dict[str, Any]:
    """Start, end, duration, and the three parts of the job."""
    job = report.metrics.job
    report.data["job"] = job
    facts = [
        ("Start (UTC)", moment(job["started"]).removesuffix(" UTC")),
        ("End (UTC)", moment(job["ended"]).removesuffix(" UTC")),
        ("Duration", seconds(job["duration"])),
        ("Device", job["device"] or "–"),
        ("Hosts", ", ".join(job["hosts"]) or "–"),
        ("Processes", count(job["world"])),
        ("Cores a host", count(job["cores"])),
        ("Loader workers", count(job["workers"])),
        ("Batch size", count(job["batch_size"])),
        ("Image size", count(job["image_size"])),
        ("Training images", count(job["train_images"])),
    ]
    parts = [(name, job[name.replace(" ", "_")]) for name in PARTS]
    return {
        "timed": job["started"] is not None,
        "facts": facts,
        "shares": [
            Share(name, part["share"] or 0.0, colour("phase", name), seconds(part["seconds"]))
            for name, part in parts
            if part
        ],
        "parts": [
            [
                name,
                PARTS[name],
                seconds(part["seconds"] if part else None),
                percent(part["share"] if part else None),
            ]
            for name, part in parts
        ],
    }


def gaps(report: ReportContext) -> dict[str, Any]:
    """Everything that is missing, truncated or out of order."""
    recording = report.metrics.recording
    problems = list(recording.problems)
    report.data["problems"] = problems
    inferred = recording.job.get("inferred") or []
    return {"problems": problems, "inferred": ", ".join(map(str, inferred))}


def _card(each: Recommendation, report: ReportContext) -> dict[str, Any]:
    return {
        "hyperparameter": each.hyperparameter,
        "current": None if each.current is None else _setting(each.current),
        "to": _setting(each.to),
        "factor": each.factor,
        "also": each.also,
        "why": f"{each.why[:1].upper()}{each.why[1:].rstrip('.')}.",
        "gain": f"{each.expected_gain.rstrip('.')}.",
        "formula": each.formula,
        "rules": report.rule_links(each.rules),
    }


def _counted(singular: str, plural: str, value: float | None) -> str:
    return f"{count(value)} {singular if value == 1 else plural}" if value else ""


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else plain(value)

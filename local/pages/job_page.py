"""What a training job left, as one HTML file: nothing is loaded from anywhere, text is escaped."""

import base64
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local.client.follow import interruptions
from local.errors import UserError
from local.pages.html import document, rows
from local.requests.tuning import plain
from local.results.downloads import OUTPUT, find_output
from local.results.evaluation import read_epochs, read_evaluation
from local.results.profiler_report import find_report, first_sentence
from local.results.rule_statuses import TOLD, rule_statuses
from local.results.tuning_trials import duration

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
CAPTIONS = {
    "curves.png": "Loss, accuracy and learning rate",
    "confusion.png": "Confusion",
    "worst.png": "The surest mistakes",
    "golden.jpg": "Golden image",
}
LARGEST_PICTURE = 20_000_000
"""Bytes of a picture that still goes into the page."""


def write_report_page(job: Mapping[str, Any], folder: Path) -> Path:
    """Write `index.html` into the job's folder; gives its path.

    Args:
        job: DescribeTrainingJob's answer.
        folder: where its outputs were unpacked; without any, the page tells what SageMaker knows.
    """
    name = str(job["TrainingJobName"])
    body = [
        f"<h1>{escape(name)}</h1>",
        *_facts(job),
        *_evaluation(folder),
        *_profiler(folder),
        *_rules(job, folder),
        *_curves(folder),
        *_pictures(folder),
        *_metrics(job),
        "<h2>Hyperparameters</h2>",
        rows(
            ["hyperparameter", "value"],
            [[key, plain(value)] for key, value in sorted(job.get("HyperParameters", {}).items())],
        ),
        *_files(folder),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(document(name, "\n".join(body)), encoding="utf-8")
    return page


def _facts(job: Mapping[str, Any]) -> Iterator[str]:
    resources = job.get("ResourceConfig", {})
    status, secondary = str(job["TrainingJobStatus"]), job.get("SecondaryStatus")
    facts = [
        status if secondary in (None, status) else f"{status} ({secondary})",
        f"{resources.get('InstanceCount', 1)} × {resources.get('InstanceType', '?')}",
        job.get("AlgorithmSpecification", {}).get("TrainingImage", ""),
    ]
    if "TrainingTimeInSeconds" in job:
        facts.append(f"trained {duration(job['TrainingTimeInSeconds'])}")
    if "BillableTimeInSeconds" in job:
        facts.append(f"billed {duration(job['BillableTimeInSeconds'])}")
    yield f"<p class=note>{escape(' · '.join(facts))}</p>"
    if job.get("FailureReason"):
        yield f"<p class=failure>{escape(job['FailureReason'])}</p>"
    lost = interruptions(dict(job))
    if lost:
        yield f"<h2>Interrupted {len(lost)} ×</h2>"
        yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lost) + "</ul>"


def _evaluation(folder: Path) -> Iterator[str]:
    path = find_output(folder, "evaluation.json")
    if path is None:
        return
    try:
        evaluation = read_evaluation(path)
    except UserError as error:
        yield f"<h2>Evaluation</h2><p class=note>{escape(str(error))}</p>"
        return
    yield f"<h2>Evaluation on {evaluation.images} {escape(evaluation.split)} images</h2>"
    yield (
        f"<p class=figures><b>{evaluation.accuracy:.2%}</b> accuracy, "
        f"<b>{evaluation.top5:.2%}</b> top-5, best epoch {evaluation.best_epoch}</p>"
    )
    yield rows(
        ["class", "precision", "recall", "F1", "images"],
        [
            [
                name,
                *(f"{share:.3f}" for share in (row.precision, row.recall, row.f1)),
                str(row.support),
            ]
            for name, row in evaluation.classes.items()
        ],
    )


def _profiler(folder: Path) -> Iterator[str]:
    """A link to the profiler's report, and its verdict."""
    page = find_report(folder)
    if page is None:
        return
    verdict = first_sentence(page)
    yield "<h2>Profiler</h2>"
    yield f"<p>{escape(verdict)}</p>" if verdict else ""
    link = quote(page.relative_to(folder).as_posix())
    yield f'<p><a href="{escape(link)}">The profiler\'s report</a></p>'


def _rules(job: Mapping[str, Any], folder: Path) -> Iterator[str]:
    statuses = rule_statuses(job, folder)
    if statuses:
        yield "<h2>Rules</h2>"
        yield rows(
            ["rule", "of the", "status", "details"],
            [[each.name, each.kind, each.status, each.details] for each in statuses],
            ["failed" if each.status in TOLD else "" for each in statuses],
        )


def _curves(folder: Path) -> Iterator[str]:
    """The metrics of every epoch, as a table; its picture comes with the others."""
    path = find_output(folder, "metrics.jsonl")
    if path is None:
        return
    try:
        epochs = read_epochs(path)
    except UserError as error:
        yield f"<h2>Epochs</h2><p class=note>{escape(str(error))}</p>"
        return
    if not epochs:
        return
    names = list(epochs[0])
    yield "<h2>Epochs</h2>"
    yield rows(names, [[_number(epoch.get(name)) for name in names] for epoch in epochs])


def _pictures(folder: Path) -> Iterator[str]:
    paths = [path for path in (folder / OUTPUT).rglob("*") if path.suffix.lower() in PICTURES]
    known = list(CAPTIONS)
    paths.sort(key=lambda p: (known.index(p.name) if p.name in known else len(known), p.name))
    for path in paths:
        if path.stat().st_size > LARGEST_PICTURE:
            continue
        caption = CAPTIONS.get(path.name, path.stem)
        data = base64.b64encode(path.read_bytes()).decode()
        kind = PICTURES[path.suffix.lower()]
        yield f"<h2>{escape(caption)}</h2>"
        yield f'<img alt="{escape(caption)}" src="data:{kind};base64,{data}">'


def _metrics(job: Mapping[str, Any]) -> Iterator[str]:
    metrics = job.get("FinalMetricDataList", [])
    if metrics:
        yield "<h2>Final metrics, as SageMaker read them</h2>"
        yield rows(
            ["metric", "value"], [[each["MetricName"], f"{each['Value']:.6g}"] for each in metrics]
        )


def _files(folder: Path) -> Iterator[str]:
    root = folder / OUTPUT
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    if not paths:
        yield "<p class=note>The job left no output.</p>"
        return
    yield "<h2>Files</h2>"
    yield rows(
        ["file", "bytes"],
        [[str(path.relative_to(folder)), f"{path.stat().st_size:,}"] for path in paths],
    )


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else str(value or "–")

"""The report page of a training job, a self-contained HTML file."""

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from container.pages.environment import environment
from local.client.follow import interruptions
from local.errors import UserError
from local.requests.tuning import unquote_json
from local.results.downloads import OUTPUT, find_output
from local.results.evaluation import read_epochs, read_evaluation
from local.results.fit import FILE, read_fit
from local.results.profiler_report import find_report, first_sentence
from local.results.rule_statuses import REPORTED, rule_statuses
from local.results.tuning_trials import format_duration

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
CAPTIONS = {
    "fit.png": "Accuracy against minutes, and what more images would bring",
    "curves.png": "Loss, accuracy and learning rate",
    "confusion.png": "Confusion matrix",
    "worst.png": "Most confident mistakes",
    "golden.jpg": "Golden image",
}
Content = TypeVar("Content")
LARGEST_PICTURE = 20_000_000
"""Largest picture in the page, in bytes."""


def write_report_page(job: Mapping[str, Any], folder: Path) -> Path:
    """Write `index.html` to the job's folder and return its path.

    Args:
        job: the DescribeTrainingJob response.
        folder: the job's folder; without outputs in it, the page only shows SageMaker's response.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evaluation, evaluation_error = _read(folder, "evaluation.json", read_evaluation)
    epochs, epochs_error = _read(folder, "metrics.jsonl", read_epochs)
    fit, fit_error = _read(folder, FILE, read_fit)
    names = list(epochs[0]) if epochs else []
    page = folder / "index.html"
    text = (
        environment(__package__)
        .get_template("job.html")
        .render(
            name=str(job["TrainingJobName"]),
            facts=list(_facts(job)),
            failure=job.get("FailureReason", ""),
            interruptions=interruptions(dict(job)),
            evaluation=evaluation,
            evaluation_error=evaluation_error,
            fit=fit,
            fit_error=fit_error,
            profile=_profile(folder),
            rules=[
                ([each.name, each.kind, each.status, each.details], each.status in REPORTED)
                for each in rule_statuses(job, folder)
            ],
            epoch_names=names,
            epochs=[[_number(epoch.get(name)) for name in names] for epoch in epochs or ()],
            epochs_error=epochs_error,
            pictures=_pictures(folder),
            metrics=[
                [each["MetricName"], f"{each['Value']:.6g}"]
                for each in job.get("FinalMetricDataList", [])
            ],
            hyperparameters=[
                [key, unquote_json(value)]
                for key, value in sorted(job.get("HyperParameters", {}).items())
            ],
            files=_files(folder),
            charts={},
        )
    )
    page.write_text(text, encoding="utf-8")
    return page


def _read(folder: Path, name: str, read: Callable[[Path], Content]) -> tuple[Content | None, str]:
    """The content of one of the job's files, and the error if it is invalid."""
    path = find_output(folder, name)
    try:
        return (None if path is None else read(path)), ""
    except UserError as error:
        return None, str(error)


def _facts(job: Mapping[str, Any]) -> Iterator[str]:
    resources = job.get("ResourceConfig", {})
    status, secondary = str(job["TrainingJobStatus"]), job.get("SecondaryStatus")
    yield status if secondary in (None, status) else f"{status} ({secondary})"
    yield f"{resources.get('InstanceCount', 1)} × {resources.get('InstanceType', '?')}"
    image = job.get("AlgorithmSpecification", {}).get("TrainingImage")
    if image:
        yield image
    if "TrainingTimeInSeconds" in job:
        yield f"trained {format_duration(job['TrainingTimeInSeconds'])}"
    if "BillableTimeInSeconds" in job:
        yield f"billed {format_duration(job['BillableTimeInSeconds'])}"


def _profile(folder: Path) -> dict[str, str] | None:
    """The profiler report's verdict and link."""
    page = find_report(folder)
    if page is None:
        return None
    return {
        "verdict": first_sentence(page),
        "link": quote(page.relative_to(folder).as_posix()),
    }


def _pictures(folder: Path) -> list[dict[str, str]]:
    """Captions and data URLs of the job's pictures, known ones first."""
    paths = [path for path in (folder / OUTPUT).rglob("*") if path.suffix.lower() in PICTURES]
    known = list(CAPTIONS)
    paths.sort(key=lambda p: (known.index(p.name) if p.name in known else len(known), p.name))
    found = []
    for path in paths:
        if path.stat().st_size > LARGEST_PICTURE:
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        url = f"data:{PICTURES[path.suffix.lower()]};base64,{data}"
        found.append({"caption": CAPTIONS.get(path.name, path.stem), "url": url})
    return found


def _files(folder: Path) -> list[list[str]]:
    paths = sorted(path for path in (folder / OUTPUT).rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), f"{path.stat().st_size:,}"] for path in paths]


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else str(value or "–")

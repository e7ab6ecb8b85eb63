"""A tuning job's trials, from SageMaker's responses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local.requests.tuning import unquote_json

if TYPE_CHECKING:
    from rich.table import Table

LIST_PAGE = 100
"""Largest page of ListTrainingJobsForHyperParameterTuningJob."""
NAME_WIDTH = 40


@dataclass(frozen=True)
class Trial:
    """One training job of a tuning job.

    Attributes:
        name: name of the training job.
        status: its TrainingJobStatus.
        hyperparameters: the values chosen for it.
        objective: the objective's final value, or the latest one while it is running.
        seconds: its training time so far; None before it starts.
        failure: its FailureReason.
    """

    name: str
    status: str
    hyperparameters: dict[str, str]
    objective: float | None
    seconds: float | None
    failure: str

    @classmethod
    def read(cls, summary: Mapping[str, Any], now: datetime | None = None) -> "Trial":
        """Parse a summary of ListTrainingJobsForHyperParameterTuningJob."""
        metric = summary.get("FinalHyperParameterTuningJobObjectiveMetric")
        start = summary.get("TrainingStartTime")
        end = summary.get("TrainingEndTime") or now or datetime.now(UTC)
        return cls(
            name=summary["TrainingJobName"],
            status=summary["TrainingJobStatus"],
            hyperparameters={
                name: unquote_json(value) for name, value in summary["TunedHyperParameters"].items()
            },
            objective=None if metric is None else float(metric["Value"]),
            seconds=None if start is None else (end - start).total_seconds(),
            failure=" ".join(summary.get("FailureReason", "").split()),
        )


def list_trials(client: Any, tuning_job: str) -> list[Trial]:
    """Every trial of a tuning job, oldest first."""
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=tuning_job,
        SortBy="CreationTime",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": LIST_PAGE},
    )
    return [Trial.read(summary) for page in pages for summary in page["TrainingJobSummaries"]]


def with_current(client: Any, trials: list[Trial], metric: str) -> list[Trial]:
    """The trials, with the objective's latest value for those that are running."""
    return [
        replace(trial, objective=_current(client, trial.name, metric))
        if trial.status == "InProgress" and trial.objective is None
        else trial
        for trial in trials
    ]


def _current(client: Any, name: str, metric: str) -> float | None:
    described = client.describe_training_job(TrainingJobName=name)
    for each in described.get("FinalMetricDataList", ()):
        if each["MetricName"] == metric:
            return float(each["Value"])
    return None


def read_objective(tuning_job: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of a tuning job's objective metric, and whether it is maximized."""
    several = tuning_job.get("TrainingJobDefinitions") or [{}]
    definition = tuning_job.get("TrainingJobDefinition") or several[0]
    objective = tuning_job["HyperParameterTuningJobConfig"].get(
        "HyperParameterTuningJobObjective"
    ) or definition.get("TuningObjective", {"MetricName": "objective", "Type": "Maximize"})
    return str(objective["MetricName"]), objective["Type"] == "Maximize"


def best_of(trials: list[Trial], *, maximize: bool) -> Trial | None:
    """The trial with the best objective so far; None if no trial has one."""
    measured = [trial for trial in trials if trial.objective is not None]
    if not measured:
        return None
    return (max if maximize else min)(measured, key=lambda trial: trial.objective or 0.0)


def table(trials: list[Trial], objective: str, *, maximize: bool) -> "Table":
    """The trials as a table; the best so far is green."""
    from rich.table import Table
    from rich.text import Text

    searched = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    shown = Table(box=None, header_style="bold", pad_edge=False)
    shown.add_column("trial", overflow="fold", max_width=NAME_WIDTH)
    shown.add_column("status")
    for name in searched:
        shown.add_column(Text(name), justify="right")
    shown.add_column(Text(objective), justify="right")
    shown.add_column("time", justify="right")
    best = best_of(trials, maximize=maximize)
    for trial in trials:
        style = "green" if trial is best else "red" if trial.status == "Failed" else ""
        shown.add_row(
            *(Text(cell) for cell in (trial.name, trial.status)),
            *(Text(short(trial.hyperparameters.get(name, "–"))) for name in searched),
            Text("–" if trial.objective is None else f"{trial.objective:.4f}"),
            Text(format_duration(trial.seconds)),
            style=style,
        )
    return shown


def line(trial: Trial) -> str:
    """A trial in one line, for output that is not a terminal."""
    values = " ".join(f"{name}={short(value)}" for name, value in trial.hyperparameters.items())
    objective = "" if trial.objective is None else f"  objective {trial.objective:.4f}"
    failure = f"  {trial.failure}" if trial.failure else ""
    took = format_duration(trial.seconds)
    return f"{trial.name}  {trial.status}  {values}{objective}  {took}{failure}"


def short(value: str) -> str:
    """A float rounded to four significant digits; any other value unchanged."""
    try:
        return value if value.lstrip("+-").isdigit() else f"{float(value):.4g}"
    except ValueError:
        return value


def format_duration(seconds: float | None) -> str:
    """Format a duration: `3 s`, `2 min 5 s` or `1 h 10 min`; `–` for None."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

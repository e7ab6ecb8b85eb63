"""The report page of a tuning job, a self-contained HTML file.

It only uses SageMaker's responses, so it is the same for jobs on AWS and local ones.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container.pages.charts import Chart, Charts, axis, label
from container.pages.environment import environment
from local.requests.tuning import unquote_json
from local.results.tuning_trials import Trial, best_of, format_duration, read_objective, short

if TYPE_CHECKING:
    import optuna

FEWEST = 2
"""Fewest completed trials for the importance of hyperparameters."""


def page(tuning_job: Mapping[str, Any], trials: list[Trial]) -> str:
    """Render the page.

    Args:
        tuning_job: the DescribeHyperParameterTuningJob response.
        trials: the job's trials, oldest first.
    """
    objective, maximize = read_objective(tuning_job)
    best = best_of(trials, maximize=maximize)
    searched = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    charts = Charts()
    study = _study(tuning_job, trials, maximize=maximize)
    no_importance = _why_no_importance(study)
    return (
        environment(__package__)
        .get_template("tuning.html")
        .render(
            name=str(tuning_job["HyperParameterTuningJobName"]),
            facts=_facts(tuning_job),
            objective=objective,
            best=best,
            history=_history(charts, study, trials, objective) if study.trials else None,
            coordinates=_coordinates(charts, study, objective, maximize=maximize)
            if study.trials
            else None,
            importance=None if no_importance else _importance(charts, study),
            no_importance=no_importance,
            header=["trial", "status", *searched, objective, "time", ""],
            rows=[
                (_row(trial, searched), "best" if trial is best else trial.status.lower())
                for trial in trials
            ],
            charts=charts.specs,
        )
    )


def write_page(tuning_job: Mapping[str, Any], trials: list[Trial], path: Path) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(tuning_job, trials), encoding="utf-8")


def _facts(tuning_job: Mapping[str, Any]) -> list[str]:
    config = tuning_job["HyperParameterTuningJobConfig"]
    counters = tuning_job.get("TrainingJobStatusCounters", {})
    failed = counters.get("NonRetryableError", 0) + counters.get("RetryableError", 0)
    return [
        str(tuning_job["HyperParameterTuningJobStatus"]),
        f"{config['Strategy']} search",
        f"{counters.get('Completed', 0)} trials completed",
        f"{failed} failed",
        f"{counters.get('Stopped', 0)} stopped",
        f"at most {config['ResourceLimits']['MaxParallelTrainingJobs']} in parallel",
    ]


def _row(trial: Trial, searched: list[str]) -> list[str]:
    return [
        trial.name,
        trial.status,
        *(short(trial.hyperparameters.get(name, "–")) for name in searched),
        "–" if trial.objective is None else f"{trial.objective:.4f}",
        format_duration(trial.seconds),
        trial.failure,
    ]


def _history(charts: Charts, study: "optuna.Study", trials: list[Trial], objective: str) -> Chart:
    """The objective of each trial and the best so far, with the trials' own numbers."""
    numbers = [number for number, trial in enumerate(trials, 1) if _is_finished(trial)]
    figure = _figure("plot_optimization_history", study, objective)
    for trace, colour in zip(figure["data"], ("--blue", "--orange"), strict=False):
        trace["x"] = [numbers[position] for position in trace["x"]]
        trace |= {"marker": {"color": colour}, "line": {"color": colour}}
    ticks = {"tickformat": "d", "tick0": 1, "nticks": min(20, numbers[-1] + 1)}
    layout = {"xaxis": axis("trial", **ticks), "yaxis": axis(label(objective))}
    return charts.add("history", "The objective of each trial", figure["data"], layout, height=360)


def _coordinates(charts: Charts, study: "optuna.Study", objective: str, *, maximize: bool) -> Chart:
    """A line per trial through its hyperparameters; the better its objective, the stronger."""
    figure = _figure("plot_parallel_coordinate", study, objective)
    for trace in figure["data"]:
        if trace["mode"] == "lines":
            height = trace["y"][0]
            trace["line"]["color"] = "--blue"
            trace["opacity"] = 0.15 + 0.85 * (height if maximize else 1 - height)
        else:
            trace["marker"]["colorscale"] = [[0, "--card"], [1, "--blue"]]
    layout = figure["layout"]
    for annotation in layout["annotations"]:
        annotation["font"]["color"] = "--soft"
    for shape in layout["shapes"]:
        shape["line"]["color"] = "--faint"
    kept = ("annotations", "hovermode", "shapes", "xaxis", "yaxis")
    return charts.add(
        "coordinates",
        "Each trial as a line through its hyperparameters; the stronger, the better",
        figure["data"],
        {key: layout[key] for key in kept} | {"showlegend": False},
        height=420,
    )


def _importance(charts: Charts, study: "optuna.Study") -> Chart:
    import optuna

    importances = optuna.importance.get_param_importances(study)
    names = list(importances)[::-1]
    bars = {
        "type": "bar",
        "x": [importances[name] for name in names],
        "y": names,
        "orientation": "h",
        "text": [f"{importances[name]:.2f}" for name in names],
        "marker": {"color": "--blue"},
    }
    return charts.add(
        "importance",
        "How much of the objective’s variance each hyperparameter explains",
        [bars],
        {"xaxis": {"range": [0, 1]}, "yaxis": {"type": "category"}, "hovermode": "closest"},
        height=90 + 40 * len(names),
    )


def _figure(function: str, study: "optuna.Study", objective: str) -> dict[str, Any]:
    """One of Optuna's figures as a dict."""
    import optuna

    figure = getattr(optuna.visualization, function)(study, target_name=label(objective))
    return dict(json.loads(figure.to_json()))


def _why_no_importance(study: "optuna.Study") -> str | None:
    if len(study.trials) < FEWEST:
        return f"At least {FEWEST} completed trials are needed to estimate importance."
    if len({trial.value for trial in study.trials}) < FEWEST:
        return "All trials have the same objective value."
    varied = [
        name
        for name in study.trials[0].params
        if len({trial.params.get(name) for trial in study.trials}) > 1
    ]
    return None if varied else "All trials have the same hyperparameters."


def _study(tuning_job: Mapping[str, Any], trials: list[Trial], *, maximize: bool) -> "optuna.Study":
    """An Optuna study of the finished trials, for its plots."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    finished = [trial for trial in trials if _is_finished(trial)]
    ranges = _ranges(tuning_job, finished)
    for trial in finished:
        given = {n: v for n, v in trial.hyperparameters.items() if n in ranges}
        study.add_trial(
            optuna.trial.create_trial(
                params={label(name): _value(text, ranges[name]) for name, text in given.items()},
                distributions={label(name): ranges[name] for name in given},
                value=trial.objective,
            )
        )
    return study


def _is_finished(trial: Trial) -> bool:
    return trial.objective is not None and trial.status in ("Completed", "Stopped")


def _ranges(tuning_job: Mapping[str, Any], trials: list[Trial]) -> dict[str, Any]:
    """The Optuna distribution of each searched hyperparameter.

    It includes the values of all trials, as rounding may put one slightly outside the range.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    config = tuning_job["HyperParameterTuningJobConfig"]
    definitions = tuning_job.get("TrainingJobDefinitions") or [{}]
    given: dict[str, Any] = dict(config.get("ParameterRanges") or {})
    for definition in definitions:
        for kind, ranges in (definition.get("HyperParameterRanges") or {}).items():
            given[kind] = [*given.get(kind, ()), *ranges]

    def seen(name: str) -> list[str]:
        return [t.hyperparameters[name] for t in trials if name in t.hyperparameters]

    found: dict[str, Any] = {}
    for each in given.get("ContinuousParameterRanges", ()):
        values = [float(v) for v in (each["MinValue"], each["MaxValue"], *seen(each["Name"]))]
        log = each.get("ScalingType") == "Logarithmic"
        found[each["Name"]] = FloatDistribution(min(values), max(values), log=log)
    for each in given.get("IntegerParameterRanges", ()):
        whole = [round(float(v)) for v in (each["MinValue"], each["MaxValue"], *seen(each["Name"]))]
        log = each.get("ScalingType") == "Logarithmic"
        found[each["Name"]] = IntDistribution(min(whole), max(whole), log=log)
    for each in given.get("CategoricalParameterRanges", ()):
        choices = [label(unquote_json(value)) for value in (*each["Values"], *seen(each["Name"]))]
        found[each["Name"]] = CategoricalDistribution(list(dict.fromkeys(choices)))
    return found


def _value(text: str, distribution: Any) -> Any:
    """A hyperparameter's value in the type of its distribution."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return label(text)
    return round(float(text)) if isinstance(distribution, IntDistribution) else float(text)

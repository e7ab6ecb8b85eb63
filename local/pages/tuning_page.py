"""A tuning job as one HTML file: nothing is loaded from anywhere, names are escaped.

Built from SageMaker's answers alone, so a job on AWS gets the same page as a local one.
"""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.pages.html import document, rows
from local.requests.tuning import plain
from local.results.tuning_trials import Trial, best_of, duration, read_objective, short

if TYPE_CHECKING:
    import optuna

FEWEST = 2
"""Completed trials it takes to say which hyperparameter matters."""


def page(tuning_job: Mapping[str, Any], trials: list[Trial]) -> str:
    """The page's text.

    Args:
        tuning_job: DescribeHyperParameterTuningJob's answer.
        trials: those of the job, oldest first.
    """
    name = str(tuning_job["HyperParameterTuningJobName"])
    objective, maximize = read_objective(tuning_job)
    body = [
        f"<h1>{escape(name)}</h1>",
        f"<p class=note>{escape(_facts(tuning_job))}</p>",
        *_best(trials, objective, maximize=maximize),
        *_figures(tuning_job, trials, objective, maximize=maximize),
        "<h2>Trials</h2>",
        _table(trials, objective, maximize=maximize),
    ]
    return document(name, "\n".join(body))


def write_page(tuning_job: Mapping[str, Any], trials: list[Trial], path: Path) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(tuning_job, trials), encoding="utf-8")


def _facts(tuning_job: Mapping[str, Any]) -> str:
    config = tuning_job["HyperParameterTuningJobConfig"]
    counters = tuning_job.get("TrainingJobStatusCounters", {})
    failed = counters.get("NonRetryableError", 0) + counters.get("RetryableError", 0)
    limits = config["ResourceLimits"]
    return (
        f"{config['Strategy']} search, {tuning_job['HyperParameterTuningJobStatus']}: "
        f"{counters.get('Completed', 0)} trials completed, {failed} failed, "
        f"{counters.get('Stopped', 0)} stopped; "
        f"at most {limits['MaxParallelTrainingJobs']} at a time"
    )


def _best(trials: list[Trial], objective: str, *, maximize: bool) -> list[str]:
    best = best_of(trials, maximize=maximize)
    if best is None:
        return [f"<p>No trial has a value of {escape(objective)} yet.</p>"]
    values = [[name, value] for name, value in best.hyperparameters.items()]
    return [
        "<h2>Best trial</h2>",
        f"<p><span class=mono>{escape(best.name)}</span>: "
        f"{escape(objective)} {best.objective:.4f}</p>",
        rows(["hyperparameter", "value"], values),
    ]


def _table(trials: list[Trial], objective: str, *, maximize: bool) -> str:
    searched = _searched(trials)
    best = best_of(trials, maximize=maximize)
    cells = [
        [
            trial.name,
            trial.status,
            *(short(trial.hyperparameters.get(name, "–")) for name in searched),
            "–" if trial.objective is None else f"{trial.objective:.4f}",
            duration(trial.seconds),
            trial.failure,
        ]
        for trial in trials
    ]
    classes = [
        "best" if trial is best else "failed" if trial.status == "Failed" else ""
        for trial in trials
    ]
    return rows(["trial", "status", *searched, objective, "time", ""], cells, classes)


def _searched(trials: list[Trial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))


def _figures(
    tuning_job: Mapping[str, Any], trials: list[Trial], objective: str, *, maximize: bool
) -> Iterator[str]:
    import optuna
    from plotly.offline import get_plotlyjs

    # Plotly reads tags in its labels: a name is text.
    label = escape(objective)
    study = _study(tuning_job, trials, maximize=maximize)
    if not study.trials:
        yield "<p class=note>No trial has completed, so there is nothing to draw.</p>"
        return
    drawings = optuna.visualization
    yield f"<script>{get_plotlyjs()}</script>"
    yield "<h2>Optimisation history</h2>"
    numbers = [number for number, trial in enumerate(trials, 1) if _is_finished(trial)]
    history = drawings.plot_optimization_history(study, target_name=label)
    yield _drawn(_history(history, numbers))
    yield "<h2>Parallel coordinates</h2>"
    yield _drawn(drawings.plot_parallel_coordinate(study, target_name=label))
    yield "<h2>Importance</h2>"
    problem = _why_no_importance(study)
    if problem:
        yield f"<p class=note>{problem}</p>"
        return
    importances = optuna.importance.get_param_importances(study)
    yield "<p class=note>How much of the objective's variance each hyperparameter explains.</p>"
    yield _drawn(_bars(importances))


def _history(figure: Any, numbers: list[int]) -> Any:
    """Optuna's, its trials counted as their names are, its legend out of the way."""
    for trace in figure.data:
        trace.x = [numbers[position] for position in trace.x]
    figure.update_xaxes(tickformat="d", tick0=1, nticks=min(20, numbers[-1] + 1))
    return figure.update_layout(legend={"orientation": "h", "y": -0.2, "yanchor": "top"})


def _bars(importances: Mapping[str, float]) -> Any:
    from plotly import graph_objects

    names = list(importances)[::-1]
    bars = graph_objects.Bar(
        x=[importances[name] for name in names],
        y=names,
        orientation="h",
        text=[f"{importances[name]:.2f}" for name in names],
    )
    return graph_objects.Figure(bars, {"xaxis": {"range": [0, 1]}})


def _why_no_importance(study: "optuna.Study") -> str | None:
    if len(study.trials) < FEWEST:
        return f"It takes {FEWEST} completed trials to say which hyperparameter matters."
    if len({trial.value for trial in study.trials}) < FEWEST:
        return "All trials reached the same value, so no hyperparameter mattered."
    varied = [
        name
        for name in study.trials[0].params
        if len({trial.params.get(name) for trial in study.trials}) > 1
    ]
    return None if varied else "All trials had the same hyperparameters."


def _drawn(figure: Any) -> str:
    figure.update_layout(title=None, template="plotly_white", margin={"t": 20, "b": 40})
    text = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return str(text)


def _study(tuning_job: Mapping[str, Any], trials: list[Trial], *, maximize: bool) -> "optuna.Study":
    """The finished trials as Optuna's, which draws them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    finished = [trial for trial in trials if _is_finished(trial)]
    ranges = _ranges(tuning_job, finished)
    for trial in finished:
        given = {n: v for n, v in trial.hyperparameters.items() if n in ranges}
        study.add_trial(
            optuna.trial.create_trial(
                params={escape(name): _value(text, ranges[name]) for name, text in given.items()},
                distributions={escape(name): ranges[name] for name in given},
                value=trial.objective,
            )
        )
    return study


def _is_finished(trial: Trial) -> bool:
    return trial.objective is not None and trial.status in ("Completed", "Stopped")


def _ranges(tuning_job: Mapping[str, Any], trials: list[Trial]) -> dict[str, Any]:
    """Optuna's distribution of each hyperparameter that is searched.

    It also holds what trials were given outside the range: rounding may leave it by a hair.
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
        choices = [escape(plain(value)) for value in (*each["Values"], *seen(each["Name"]))]
        found[each["Name"]] = CategoricalDistribution(list(dict.fromkeys(choices)))
    return found


def _value(text: str, distribution: Any) -> Any:
    """A hyperparameter's value as its distribution knows it."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return escape(text)
    return round(float(text)) if isinstance(distribution, IntDistribution) else float(text)

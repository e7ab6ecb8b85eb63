"""`berth tune`: a search for the best hyperparameters, watched to its end."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from container.extras import module_missing
from local.client.console import print_note
from local.client.follow import follow_training
from local.client.image_platform import check_platform
from local.client.polling import Backoff, unless_throttled
from local.client.target import Target
from local.commands.options.job import JobOptions
from local.commands.options.monitoring import MonitoringOptions, profile_options
from local.commands.options.search import PANEL, SearchOptions, search_options
from local.commands.options.shared import CommonOptions, with_options
from local.commands.train import outcome
from local.errors import UserError
from local.requests.features import (
    CHANNEL,
    CPU_INSTANCE,
    GPU_INSTANCE,
    NO_FEATURES,
    SUFFIX,
    extraction_job,
    features_uri,
    is_frozen,
    problem,
    required,
    with_features,
)
from local.requests.hyperparameter_files import write_best
from local.requests.names import TUNING_LIMIT, checked_name, job_name
from local.requests.training import TrainingJobRequest
from local.requests.tuning import Search, best_hyperparameters
from local.results.tuning_trials import (
    Trial,
    line,
    list_trials,
    read_objective,
    table,
    with_current,
)
from local.statuses import TERMINAL


@with_options(CommonOptions, JobOptions, search_options, profile_options)
def tune(
    common: CommonOptions,
    options: JobOptions,
    searching: SearchOptions,
    monitoring: MonitoringOptions,
    *,
    data: Annotated[
        str | None,
        typer.Argument(help="s3://bucket/prefix (or, on this machine, a folder) of images"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="the job's (default: berth-DATA-TIME)")] = None,
    features: Annotated[
        bool | None,
        typer.Option(
            "--features/--no-features",
            help="trials train on features computed once: on AWS by a training job before them, "
            "here by the first of them (default: where no range changes the features)",
            rich_help_panel=PANEL,
        ),
    ] = None,
    features_instance: Annotated[
        str | None,
        typer.Option(
            help=f"type of the instance that computes them (default: {GPU_INSTANCE})",
            rich_help_panel=PANEL,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="watch the trials")] = True,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="where best.json and tuning.html go (default: a folder of its name)"),
    ] = None,
) -> None:
    """Search for the best hyperparameters, and leave them as best.json, best.yaml and a page.

    Ctrl-C only ends the monitoring: the search goes on, and `berth report NAME` has its results.
    """
    about = options.about(data)
    target = common.connect()
    name = (
        checked_name(name, TUNING_LIMIT)
        if name
        else job_name(about, datetime.now(UTC), TUNING_LIMIT)
    )
    search = searching.without(options.given)
    job = options.job(target, name, data, searching.fixed)
    job = monitoring.apply_to(job, target, name, options.given)
    search.check(job)
    extraction, plain = None, job
    shared = _shares_features(search, job, features)
    if shared and features:
        job = required(job)
    if features_instance is not None and not (shared and target.where == "aws"):
        raise UserError(
            "--features-instance: no job computes features "
            + ("on this machine, where trials share them" if shared else "for this search")
        )
    if shared and target.where == "aws":
        computed_on = features_instance or GPU_INSTANCE
        extraction = extraction_job(search, job, computed_on)
        trained_on = options.instance_type or CPU_INSTANCE
        check_platform(target, job.image_uri, [computed_on, trained_on])
        job = with_features(job, features_uri(job, f"{name}{SUFFIX}"), trained_on)
    request = search.request(name, job)
    first = None if extraction is None else extraction.request(f"{name}{SUFFIX}")
    if target.plan:
        from local.client import plan

        before = [] if first is None else [("CreateTrainingJob", first)]
        plan.show(target, [*before, ("CreateHyperParameterTuningJob", request)])
        return
    target.ensure_bucket()
    if first is not None:
        reason = _extract(target, first, job.channels[CHANNEL])
        if reason is not None and features:
            raise UserError(f"--features: {reason}")
        if reason is not None:
            print_note(f"every trial goes through the backbone: {reason}")
            request = search.request(name, plain)
    target.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    print_note(f"tuning job {name}")
    for each in search.ranges:
        print_note(f"  {each.name}: {each.describe()}")
    if wait:
        ended = _watch(target, name)
        finish(target, ended, output_dir or Path(name), data or "DATA")
    print(name)


def _shares_features(search: Search, job: TrainingJobRequest, asked: bool | None) -> bool:
    """Whether the trials train on features that are computed once for all of them.

    Raises:
        UserError: it is asked for, and a range or a fixed hyperparameter forbids it.
    """
    if asked is False:
        return False
    reason = problem(search, job)
    if reason is not None and asked:
        raise UserError(f"--features: {reason}")
    if reason is not None and is_frozen(job):
        print_note(f"every trial computes its own features: {reason}")
    return reason is None


def _extract(target: Target, request: Mapping[str, Any], uri: str) -> str | None:
    """Compute the features, and wait: trials cannot start without.

    Returns:
        Why this network has none, as only the job can tell; None once they are there.

    Raises:
        UserError: the job failed otherwise.
    """
    name = request["TrainingJobName"]
    target.client("sagemaker").create_training_job(**request)
    kind = request["ResourceConfig"]["InstanceType"]
    print_note(f"training job {name} computes the features on {kind}; the trials start after it")
    try:
        ended = follow_training(target, name, log=None)
    except KeyboardInterrupt:
        print_note(f"\nthe job goes on, and no trial was started: {target.command('logs', name)}")
        print_note(f"with its features: the same command and --channel {CHANNEL}={uri}")
        raise typer.Exit(130) from None
    if ended["TrainingJobStatus"] == "Completed":
        return None
    if NO_FEATURES in ended.get("FailureReason", ""):
        return f"{name}: {outcome(ended)}"
    raise UserError(f"{name}: {outcome(ended)}; without features: --no-features")


def _watch(target: Target, name: str) -> dict[str, Any]:
    try:
        return follow_tuning(target, name)
    except KeyboardInterrupt:
        print_note(f"\nthe search goes on; its results: {target.command('report', name)}")
        print_note(f"stop it: {target.command('stop', name)}")
        raise typer.Exit(130) from None


def follow_tuning(target: Target, name: str, backoff: Backoff | None = None) -> dict[str, Any]:
    """Monitoring a tuning job to its end: a live table on a terminal, else a line for every change.

    Returns:
        The last DescribeHyperParameterTuningJob answer.
    """
    from rich.console import Console
    from rich.live import Live

    client, console, backoff = (
        target.client("sagemaker"),
        Console(stderr=True),
        backoff or Backoff(),
    )
    seen: dict[str, tuple[str, float | None]] = {}
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            job = unless_throttled(
                lambda: client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            )
            answer = None if job is None else unless_throttled(partial(_trials, client, job))
            happened = False
            if answer is not None and job is not None:
                trials: list[Trial] = answer["trials"]
                state = {trial.name: (trial.status, trial.objective) for trial in trials}
                happened = state != seen
                if console.is_terminal:
                    metric, maximize = read_objective(job)
                    live.update(table(trials, metric, maximize=maximize), refresh=True)
                else:
                    for trial in trials:
                        if state[trial.name] != seen.get(trial.name):
                            print_note(line(trial))
                seen = state
                if job["HyperParameterTuningJobStatus"] in TERMINAL:
                    return job
            backoff.wait(happened=happened)


def _trials(client: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    trials = list_trials(client, job["HyperParameterTuningJobName"])
    return {"trials": with_current(client, trials, read_objective(job)[0])}


def finish(target: Target, job: Mapping[str, Any], folder: Path, data: str = "DATA") -> Path:
    """Leave `best.json`, `best.yaml` and `tuning.html` of a tuning job; gives the page's path.

    Without the extra `report` there is no page, and a line says so.

    `data` is what was trained on, for the command that trains with the best hyperparameters.

    Raises:
        UserError: it failed, or no trial has an objective value: then there is the page alone.
    """
    from local.pages.tuning_page import write_page

    name = job["HyperParameterTuningJobName"]
    trials = list_trials(target.client("sagemaker"), name)
    page = folder / "tuning.html"
    try:
        write_page(job, trials, page)
    except ModuleNotFoundError as error:
        line = module_missing(error)
        if line is None:
            raise
        print_note(f"no page    {line}")
    else:
        print_note(f"page       {page}")
    status = job["HyperParameterTuningJobStatus"]
    reason = " ".join(str(job.get("FailureReason", "")).split())
    if status == "Failed":
        failed = next((trial.failure for trial in trials if trial.failure), "")
        raise UserError(f"{name}: Failed: {reason or failed or 'no reason given'}")
    values = best_hyperparameters(job)
    best = job["BestTrainingJob"]
    metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
    written = write_best(
        folder,
        {
            "tuning_job": name,
            "training_job": best["TrainingJobName"],
            "objective": {"name": metric["MetricName"], "value": float(metric["Value"])},
            "hyperparameters": values,
        },
    )
    shown = " ".join(f"{key}={value}" for key, value in values.items())
    print_note(
        f"best       {best['TrainingJobName']}: {metric['MetricName']} {metric['Value']:.4f}"
    )
    print_note(f"           {shown}")
    print_note(f"files      {written[0]}, {written[1].name}")
    print_note(f"train it   {target.command('train', data, '--from-tuning', name)}")
    return page

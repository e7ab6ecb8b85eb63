"""`berth tune`: search for the best hyperparameters with a tuning job."""

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
        typer.Argument(help="s3://bucket/prefix (locally also a folder) of images"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="job name (default: berth-DATA-TIME)")] = None,
    features: Annotated[
        bool | None,
        typer.Option(
            "--features/--no-features",
            help="compute features once and train every trial on them: on AWS in a training job "
            "before the trials, locally in the first trial (default: if no range changes them)",
            rich_help_panel=PANEL,
        ),
    ] = None,
    features_instance: Annotated[
        str | None,
        typer.Option(
            help=f"instance type that computes the features (default: {GPU_INSTANCE})",
            rich_help_panel=PANEL,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="follow the trials")] = True,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="folder for best.json and tuning.html (default: the job's name)"),
    ] = None,
) -> None:
    """Search for the best hyperparameters; write best.json, best.yaml and an HTML report.

    Ctrl-C stops following; the search continues, and `berth report NAME` shows its results.
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
            "--features-instance: only for a job on AWS that computes features; "
            + ("locally the first trial does" if shared else "this search has none")
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
            print_note(f"every trial runs the backbone: {reason}")
            request = search.request(name, plain)
    target.client("sagemaker").create_hyper_parameter_tuning_job(**request)
    print_note(f"tuning job {name}")
    for each in search.ranges:
        print_note(f"  {each.name}: {each.describe()}")
    if wait:
        ended = _watch(target, name)
        finish(target, ended, output_dir or Path(name), data or "DATA")
    print(name)


def _shares_features(search: Search, job: TrainingJobRequest, option: bool | None) -> bool:
    """Whether the trials train on features that are computed once for all of them.

    Raises:
        UserError: --features was given, but a range or fixed hyperparameter rules it out.
    """
    if option is False:
        return False
    reason = problem(search, job)
    if reason is not None and option:
        raise UserError(f"--features: {reason}")
    if reason is not None and is_frozen(job):
        print_note(f"every trial computes its own features: {reason}")
    return reason is None


def _extract(target: Target, request: Mapping[str, Any], uri: str) -> str | None:
    """Run the training job that computes the features, and wait for it.

    Returns:
        None if it completed; or else the job's reason why this network has no such features.

    Raises:
        UserError: the job failed for another reason.
    """
    name = request["TrainingJobName"]
    target.client("sagemaker").create_training_job(**request)
    kind = request["ResourceConfig"]["InstanceType"]
    print_note(f"training job {name} computes the features on {kind}; then the trials start")
    try:
        ended = follow_training(target, name, log=None)
    except KeyboardInterrupt:
        print_note(f"\nthe job continues; no trial was started: {target.command('logs', name)}")
        print_note(f"to use its features, add to the command: --channel {CHANNEL}={uri}")
        raise typer.Exit(130) from None
    if ended["TrainingJobStatus"] == "Completed":
        return None
    if NO_FEATURES in ended.get("FailureReason", ""):
        return f"{name}: {outcome(ended)}"
    raise UserError(f"{name}: {outcome(ended)}; to tune without features: --no-features")


def _watch(target: Target, name: str) -> dict[str, Any]:
    try:
        return follow_tuning(target, name)
    except KeyboardInterrupt:
        print_note(f"\nthe search continues; see its results: {target.command('report', name)}")
        print_note(f"stop it: {target.command('stop', name)}")
        raise typer.Exit(130) from None


def follow_tuning(target: Target, name: str, backoff: Backoff | None = None) -> dict[str, Any]:
    """Follow a tuning job to its end: a live table on a terminal, or else a line per change.

    Returns:
        The last response of DescribeHyperParameterTuningJob.
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
            job: dict[str, Any] | None = unless_throttled(
                lambda: client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            )
            trials = None if job is None else unless_throttled(partial(_trials, client, job))
            happened = False
            if trials is not None and job is not None:
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


def _trials(client: Any, job: Mapping[str, Any]) -> list[Trial]:
    trials = list_trials(client, job["HyperParameterTuningJobName"])
    return with_current(client, trials, read_objective(job)[0])


def finish(target: Target, job: Mapping[str, Any], folder: Path, data: str = "DATA") -> Path:
    """Write `best.json`, `best.yaml` and `tuning.html` of a tuning job; return the page's path.

    Without the extra `report` it prints a line instead of writing the page. `data` is the training
    data for the suggested `berth train` command.

    Raises:
        UserError: the job failed, or no trial has an objective value; only the page is written.
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
        print_note(f"no report  {line}")
    else:
        print_note(f"report     {page}")
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
    print_note(f"train      {target.command('train', data, '--from-tuning', name)}")
    return page

"""`berth train`: run a training job, follow it, and download the results."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from local.client.console import print_note
from local.client.follow import follow_training, interruptions
from local.client.target import Target
from local.commands.options.job import JobOptions
from local.commands.options.monitoring import MonitoringOptions, monitoring_options
from local.commands.options.shared import CommonOptions, with_options
from local.errors import UserError
from local.log_groups import TRAINING_JOBS
from local.requests.names import checked_name, job_name
from local.requests.tuning import best_hyperparameters
from local.results.downloads import download_results, find_output
from local.results.evaluation import read_evaluation
from local.results.fit import FILE, fit_lines
from local.results.profiler_report import find_report, first_sentence
from local.results.rule_statuses import issues, rule_statuses

LAST_LINES = 15
"""Log lines printed for a failed job that was followed with --quiet."""


@with_options(CommonOptions, JobOptions, monitoring_options)
def train(
    common: CommonOptions,
    options: JobOptions,
    monitoring: MonitoringOptions,
    *,
    data: Annotated[
        str | None,
        typer.Argument(
            help="s3://bucket/prefix (locally also a folder) with train, validation and test, or "
            "with class folders"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="job name (default: berth-DATA-TIME)")] = None,
    from_tuning: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="use the hyperparameters of a tuning job's best trial"),
    ] = None,
    interrupt_after: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="local only: simulate a spot interruption after this many seconds",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="follow the job")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="do not print its log")] = False,
    download: Annotated[
        bool, typer.Option("--download/--no-download", help="download the results")
    ] = True,
    output_dir: Annotated[
        Path | None, typer.Option(help="folder for the results (default: the job's name)")
    ] = None,
) -> None:
    """Train a classifier, follow its log, and download the model and the other results.

    Ctrl-C stops following; the job continues, and the command prints how to follow it again.
    """
    about = options.about(data)
    if interrupt_after is not None and common.where == "aws":
        raise UserError(
            "--interrupt-after: only supported with --where local, AWS cannot simulate one"
        )
    target = common.connect()
    name = checked_name(name) if name else job_name(about, datetime.now(UTC))
    base = {} if from_tuning is None else _best(target, from_tuning)
    job = options.job(target, name, data, base, interrupt_after=interrupt_after)
    job = monitoring.apply_to(job, target, name, options.given)
    job.check()
    request = job.request(name)
    if target.plan:
        from local.client import plan

        plan.show(target, [*monitoring.uploads(target, name), ("CreateTrainingJob", request)])
        return
    target.ensure_bucket()
    monitoring.upload(target, name)
    start_and_follow(
        target, name, request, wait=wait, quiet=quiet, download=download, output_dir=output_dir
    )


def start_and_follow(
    target: Target,
    name: str,
    request: Mapping[str, Any],
    *,
    wait: bool,
    quiet: bool,
    download: bool,
    output_dir: Path | None,
) -> None:
    """Create a training job, follow it, download the results and print its name.

    Raises:
        UserError: it did not complete.
    """
    target.client("sagemaker").create_training_job(**request)
    print_note(f"training job {name}")
    if not wait:
        print(name)
        return
    ended = _follow(target, name, quiet=quiet)
    folder = output_dir or Path(name)
    found = download_results(target, ended, folder) if download else []
    for line in summary(ended, folder, found):
        print_note(line)
    if ended["TrainingJobStatus"] != "Completed":
        raise UserError(f"{name}: {outcome(ended)}")
    print(name)


def _best(target: Target, tuning_job: str) -> dict[str, str]:
    described = target.client("sagemaker").describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=tuning_job
    )
    best = best_hyperparameters(described)
    shown = " ".join(f"{name}={value}" for name, value in best.items())
    print_note(f"from {described['BestTrainingJob']['TrainingJobName']}: {shown}")
    return best


def _follow(target: Target, name: str, *, quiet: bool) -> dict[str, Any]:
    try:
        ended = follow_training(target, name, log=None if quiet else _print)
    except (KeyboardInterrupt, BrokenPipeError) as why:
        print_note(f"\nthe job continues; follow it: {target.command('logs', '-f', name)}")
        print_note(f"stop it: {target.command('stop', name)}")
        if isinstance(why, BrokenPipeError):
            raise
        raise typer.Exit(130) from None
    if quiet and ended["TrainingJobStatus"] == "Failed":
        from local.client.log_streams import LogReader

        for line in LogReader(target.client("logs"), TRAINING_JOBS, f"{name}/").last(LAST_LINES):
            print_note(f"  {line.text}")
    return ended


def outcome(job: dict[str, Any]) -> str:
    """A training job's status and failure reason in one line."""
    reason = " ".join(str(job.get("FailureReason", "")).split())
    secondary = job.get("SecondaryStatus", "")
    status = str(job["TrainingJobStatus"])
    if secondary and secondary != status:
        status = f"{status} ({secondary})"
    return f"{status}: {reason}" if reason else status


def summary(job: dict[str, Any], folder: Path, found: list[Path]) -> list[str]:
    """The lines printed when a training job has ended."""
    lines: list[str] = []
    written = find_output(folder, "evaluation.json") if found else None
    if written is not None:
        lines.append(_accuracy(written))
    fitted = find_output(folder, FILE) if found else None
    if fitted is not None:
        lines += [f"fit        {line}" for line in fit_lines(fitted)]
    metrics = job.get("FinalMetricDataList", [])
    if metrics:
        shown = ", ".join(f"{each['MetricName']} {each['Value']:.4g}" for each in metrics)
        lines.append(f"metrics    {shown}")
    lost = interruptions(job)
    if lost:
        times = "once" if len(lost) == 1 else f"{len(lost)} times"
        lines.append(f"interrupted {times}")
        lines += [f"           {line}" for line in lost]
    if "TrainingTimeInSeconds" in job:
        billed = job.get("BillableTimeInSeconds", job["TrainingTimeInSeconds"])
        lines.append(f"time       {job['TrainingTimeInSeconds']} s, billed {billed} s")
    lines += [
        f"rule       {line}" for line in issues(rule_statuses(job, folder if found else None))
    ]
    report = find_report(folder) if found else None
    if report is not None:
        verdict = first_sentence(report)
        lines += [f"verdict    {verdict}"] if verdict else []
        lines.append(f"report     {report}")
    lines += [f"downloaded {path}" for path in found]
    return lines


def _accuracy(written: Path) -> str:
    try:
        evaluation = read_evaluation(written)
    except UserError as error:
        return f"accuracy   unknown: {error}"
    return f"accuracy   {evaluation.accuracy:.4f} on {evaluation.images} {evaluation.split} images"


def _print(line: str) -> None:
    print(line, flush=True)

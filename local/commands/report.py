"""`berth report`: open a job's results as one page in the browser."""

import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from container.errors import BerthError
from local.client.console import print_note
from local.client.resources import TRAIN, TUNE, find, newest
from local.client.target import Target
from local.commands.options.monitoring import Parameters
from local.commands.options.shared import CommonOptions, pairs, with_common
from local.errors import UserError
from local.pages.job_page import write_report_page
from local.results.downloads import OUTPUT, download_results
from local.results.profile_sources import (
    fetch_folder,
    is_path,
    recording_at,
    recording_in_s3,
    report_name,
)
from local.results.profiler_report import (
    LOCAL_REPORT,
    PROFILER_OUTPUT,
    find_recording,
    find_report,
    make_report,
    parameters_of,
)
from local.statuses import TERMINAL

SEARCHED_JOBS = 1000
"""Newest jobs to search for one that has ended."""


@with_common
def report(
    common: CommonOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            help="a training or tuning job (default: the newest training job that has ended), or "
            "a profiler's recording: an output.tar.gz, a folder or s3://bucket/prefix"
        ),
    ] = None,
    *,
    rule_parameter: Parameters = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="folder for the report (default: the job's name)")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="open the report in the browser")
    ] = True,
) -> None:
    """Show a job's results: accuracy, confusion matrix, learning curves, mistakes and profile; or
    the trials of a tuning job.

    If the job wrote no profiler report, one is made from its recording; with --rule-parameter a
    new one is always made.
    """
    parameters = pairs(rule_parameter or (), "--rule-parameter")
    if name is not None and is_path(name):
        page = _recorded(common, name, output_dir, parameters)
    else:
        page = _job(common, name, output_dir, parameters)
    page = page.resolve()
    print(page)
    if show:
        webbrowser.open(page.as_uri())


def _recorded(
    common: CommonOptions, given: str, output_dir: Path | None, parameters: Mapping[str, str]
) -> Path:
    """Write the report of a profiler's recording at a path or S3 URI."""
    into = output_dir or Path(report_name(given))
    if given.startswith("s3://"):
        target = common.connect(needs_role=False)
        with recording_in_s3(target, given, into) as recording:
            return make_report(recording, into, parameters)
    with recording_at(Path(given), into) as recording:
        return make_report(recording, into, parameters)


def _job(
    common: CommonOptions, name: str | None, output_dir: Path | None, parameters: Mapping[str, str]
) -> Path:
    target = common.connect(needs_role=False)
    name = name or _newest_ended(target)
    try:
        kind, answer = find(target.client("sagemaker"), name, (TRAIN, TUNE))[0]
    except UserError:
        if not Path(name).exists():
            raise
        return _recorded(common, name, output_dir, parameters)
    folder = output_dir or Path(name)
    if kind is TRAIN:
        return _training(target, answer, folder, parameters)
    return _tuning(target, answer, folder)


def _newest_ended(target: Target) -> str:
    """The newest training job that has ended."""
    for job in newest(target.client("sagemaker"), TRAIN, SEARCHED_JOBS):
        if job.status in TERMINAL:
            return job.name
    raise UserError("no training job has ended yet; name a job or a path")


def _training(
    target: Target, job: Mapping[str, Any], folder: Path, parameters: Mapping[str, str]
) -> Path:
    name = job["TrainingJobName"]
    if job["TrainingJobStatus"] not in TERMINAL:
        raise UserError(f"{name}: still running; follow it: {target.command('logs', '-f', name)}")
    if not (folder / OUTPUT).is_dir():
        download_results(target, job, folder, model=False)
    if parameters or find_report(folder) is None:
        try:
            _profile(target, job, folder, parameters)
        except (BerthError, UserError) as error:
            if parameters:
                raise
            # The page shows more than the profile.
            print_note(f"profiler   no report: {error}")
    page = find_report(folder)
    if page is not None:
        print_note(f"profiler   {page}")
    return write_report_page(job, folder)


def _profile(
    target: Target, job: Mapping[str, Any], folder: Path, parameters: Mapping[str, str]
) -> None:
    """Write the profiler's report from the job's recording, if there is one."""
    root = job.get("ProfilerConfig", {}).get("S3OutputPath")
    if find_recording(folder) is None and root:
        uri = f"{root.rstrip('/')}/{job['TrainingJobName']}/{PROFILER_OUTPUT}"
        fetch_folder(target, uri, folder / PROFILER_OUTPUT)
    recording = find_recording(folder)
    if recording is not None:
        make_report(recording, folder / LOCAL_REPORT, {**parameters_of(job), **parameters})
    elif parameters:
        raise UserError(f"{job['TrainingJobName']}: --rule-parameter: the job was not profiled")


def _tuning(target: Target, job: Mapping[str, Any], folder: Path) -> Path:
    from local.pages.tuning_page import write_page
    from local.results.tuning_trials import list_trials

    page = folder / "tuning.html"
    name = job["HyperParameterTuningJobName"]
    write_page(job, list_trials(target.client("sagemaker"), name), page)
    return page

"""`berth fit`: train the best classifier that a time limit allows."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from container.files.folders import contents_below, find_layout
from local.client.console import print_note
from local.client.target import Target
from local.client.upload import WORKERS, Files, scan_folder, upload_files
from local.commands.data import upload_requests
from local.commands.options.job import JobOptions
from local.commands.options.shared import CommonOptions, with_options
from local.commands.train import start_and_follow
from local.errors import UserError
from local.requests.hyperparameter_files import read_hyperparameters
from local.requests.names import checked_name, job_name
from local.requests.training import DAY, MAX_RUN, TrainingJobRequest, canonical

OVERHEAD = 600
"""Seconds of --max-run beyond --minutes: starting the container, downloading the images."""
LEAST, MOST = 0.1, (MAX_RUN - OVERHEAD) / 60
"""Smallest and largest --minutes."""


@with_options(CommonOptions, JobOptions)
def fit(
    common: CommonOptions,
    options: JobOptions,
    *,
    photos: Annotated[
        str,
        typer.Argument(
            help="a folder or s3://bucket/prefix with train, validation and test, or with class "
            "folders; a folder is uploaded first for AWS"
        ),
    ],
    minutes: Annotated[float, typer.Option(help="time limit of the job")] = 30,
    name: Annotated[str | None, typer.Option(help="job name (default: berth-DATA-TIME)")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="follow the job")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="do not print its log")] = False,
    download: Annotated[
        bool, typer.Option("--download/--no-download", help="download the results")
    ] = True,
    output_dir: Annotated[
        Path | None, typer.Option(help="folder for the results (default: the job's name)")
    ] = None,
) -> None:
    """Train the best classifier that the time limit allows, in one training job that chooses the
    backbone, the image size and the training method, and reports why.

    It first trains probes on the features of every available pretrained backbone, then fine-tunes
    in the remaining time. Ctrl-C stops following; the job continues.
    """
    options = replace(options, max_run=_max_run(options, minutes))
    _check(options)
    target = common.connect()
    name = checked_name(name) if name else job_name(photos, datetime.now(UTC))
    base = {"fit_minutes": f"{minutes:.10g}"}
    uploading = common.where == "aws" and not photos.startswith("s3://")
    if uploading:
        files, prefix = _scan(photos), f"data/{Path(photos).resolve().name}/"
        job = options.job(target, name, None, base)
        job = replace(job, channels=_channels(target, photos, prefix) | dict(job.channels))
    else:
        files, prefix = None, ""
        job = options.job(target, name, photos, base)
    job.check()
    request = job.request(name)
    if target.plan:
        from local.client import plan

        sent = upload_requests(target.bucket, prefix) if uploading else []
        plan.show(target, [*sent, ("CreateTrainingJob", request)])
        return
    target.ensure_bucket()
    if files is not None:
        _upload(target, files, prefix)
    _run(target, name, job, request, wait=wait, quiet=quiet, download=download, into=output_dir)


def _max_run(options: JobOptions, minutes: float) -> int:
    """The job's MaxRuntimeInSeconds: that of --max-run, else its minutes and a start.

    Raises:
        UserError: the minutes are none, or more than --max-run.
    """
    if not LEAST <= minutes <= MOST:  # neither is NaN
        raise UserError(f"--minutes: found {minutes:g}, expected {LEAST:g} to {MOST:,.0f}")
    if options.max_run == DAY:
        return math.ceil(60 * minutes) + OVERHEAD
    if options.max_run < 60 * minutes:
        raise UserError(
            f"--max-run: found {options.max_run} seconds, expected at least those of --minutes "
            f"({60 * minutes:.0f}), and some for the container's start"
        )
    return options.max_run


def _check(options: JobOptions) -> None:
    """Raise UserError for what a fit job cannot do, before it costs anything."""
    read = read_hyperparameters(options.hyperparameters) if options.hyperparameters else {}
    for option, given in (("--hp", options.given), (str(options.hyperparameters), read)):
        for name in given:
            if canonical(name) == "fit_minutes":
                raise UserError(f"{name}: found in {option}, expected --minutes")
    if options.instance_count > 1:
        raise UserError(
            f"--instance-count: found {options.instance_count}, expected 1: a fit job runs on one "
            "host"
        )


def _scan(photos: str) -> Files:
    files = scan_folder(Path(photos))
    for line in files.left_out:
        print_note(line)
    return files


def _channels(target: Target, photos: str, prefix: str) -> dict[str, str]:
    """The channels of a folder that is going to be uploaded to `prefix` in the bucket."""
    layout = find_layout(contents_below(Path(photos)), f"{photos}/")
    for note in layout.notes:
        print_note(f"data: {note}")
    root = f"s3://{target.bucket}/{prefix}"
    return {split: f"{root}{path}" for split, path in layout.splits.items()}


def _upload(target: Target, files: Files, prefix: str) -> None:
    s3 = target.client("s3", connections=WORKERS)
    done = upload_files(s3, files, target.bucket, prefix)
    print_note(f"{done.sent:,} files uploaded, {done.unchanged:,} unchanged")


def _run(
    target: Target,
    name: str,
    job: TrainingJobRequest,
    request: Mapping[str, Any],
    *,
    wait: bool,
    quiet: bool,
    download: bool,
    into: Path | None,
) -> None:
    """Run the job and print where its model is and what to do with it."""
    start_and_follow(
        target, name, request, wait=wait, quiet=quiet, download=download, output_dir=into
    )
    if wait:
        print_note(f"model      {job.output}/{name}/output/model.tar.gz")
        print_note(f"report     {target.command('report', name)}")
        print_note(f"deploy     {target.command('deploy', 'NAME', '--job', name)}")

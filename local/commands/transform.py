"""`berth transform`: run a batch transform job on a folder or an S3 prefix of images.

berth transform photos/test --job berth-20260102-030405
berth transform s3://bucket/photos/ --model flowers-20260102-030405 --where aws
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from rich.console import Console

from container.files.folders import left_out
from container.files.progress import ProgressBar
from container.files.regular import LARGEST
from local.client import plan
from local.client.console import print_line, table_console
from local.client.image_platform import check_platform
from local.client.images import CONTENT_TYPES, ImageFile
from local.client.inputs import given_location
from local.client.log_tail import read_log_tail, serving_error, transform_errors
from local.client.model_source import find_model
from local.client.polling import Polling, poll
from local.client.target import Target
from local.client.upload import Files, scan_folder, upload_files
from local.commands.data import upload_requests
from local.commands.options.shared import (
    CommonOptions,
    Precision,
    serving_environment,
    with_common,
)
from local.errors import UserError, code
from local.log_groups import TRANSFORM_JOBS
from local.requests.hosting import Hosting, has_gpu
from local.requests.names import stamp
from local.requests.transform import Transform
from local.results.predictions import ImagePrediction, print_predictions, read_predictions
from local.s3_location import Location
from local.statuses import TERMINAL

DOWNLOADS = 16


@with_common
def transform(
    common: CommonOptions,
    source: Annotated[str, typer.Argument(help="a folder of images, or an S3 prefix")],
    job: Annotated[str | None, typer.Option(help="training job whose model to use")] = None,
    model_data: Annotated[
        str | None, typer.Option(help="S3 URI of a model.tar.gz, instead of --job")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="an existing SageMaker model, instead of --job")
    ] = None,
    name: Annotated[str | None, typer.Option(help="job name (default: transform-TIME)")] = None,
    output: Annotated[
        str | None, typer.Option(metavar="S3-URI", help="write the predictions there")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="download the predictions there (default: the job's name)")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="environment variable")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="precision of inference (default: float32, on a GPU float16)"),
    ] = None,
    instance_type: Annotated[str, typer.Option(help="instance type")] = "ml.m5.large",
    instance_count: Annotated[int, typer.Option(min=1, help="number of instances")] = 1,
    slim: Annotated[
        bool,
        typer.Option(
            "--slim", help="use the serving image, for CPUs only (make build TARGET=serve)"
        ),
    ] = False,
    kms_key: Annotated[str | None, typer.Option(help="KMS key of volumes and predictions")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines instead of a table")] = False,
) -> None:
    """Predict every image and download the predictions as `<image>.out`."""
    if model and (job or model_data):
        raise UserError("--model: found --job or --model-data as well, expected one of them")
    if model and slim:
        raise UserError("--slim: found --model as well, which already has an image; omit one")
    folder = None
    if source.startswith("s3://"):
        given_location("images", source)
    else:
        folder = images_only(scan_folder(Path(source), strict=False, largest=LARGEST))
    target = common.connect(needs_role=model is None)
    now = datetime.now(UTC)
    name = name or f"transform-{stamp(now)}"
    own_prefix = f"transform/{name}/input/"
    hosting = None
    if model is None:
        if slim and has_gpu(instance_type):
            raise UserError(
                f"--slim: {instance_type} has a GPU, which the serving image cannot use"
            )
        found = find_model(
            target, job=job, model_data=model_data, image_uri=common.image_uri, slim=slim
        )
        check_platform(target, found.image_uri, [instance_type])
        hosting = Hosting(
            name=name,
            image_uri=found.image_uri,
            model_data=found.model_data,
            role=target.role,
            stamp=stamp(now),
            tags=target.tags,
        )
    request = Transform(
        name=name,
        model=model or (hosting.resource_name if hosting else ""),
        source=f"s3://{target.bucket}/{own_prefix}" if folder else source,
        destination=output or f"s3://{target.bucket}/transform/{name}/output",
        instance_type=instance_type,
        instance_count=instance_count,
        kms_key=kms_key,
        environment=serving_environment(env, precision),
        tags=target.tags,
    )
    if target.plan:
        sent: list[tuple[str, dict[str, Any]]] = []
        if folder:
            sent += upload_requests(target.bucket, own_prefix)
        if hosting:
            sent.append(("CreateModel", hosting.model()))
        plan.show(target, [*sent, ("CreateTransformJob", request.request())])
        return
    notes = Console(stderr=True)
    for line in folder.left_out if folder else ():
        print_line(notes, line)
    target.ensure_bucket()
    if folder:
        upload_files(
            target.client("s3", connections=24), folder, target.bucket, own_prefix, kms_key=kms_key
        )
    failure = run(target, request, hosting, notes)
    home = to or Path(name)
    predictions = download_predictions(target, request, home, folder)
    if failure:
        predictions += missing_predictions(target, request, predictions, folder)
    if not any(prediction.error is None for prediction in predictions) and failure:
        print_log_tail(target, name, notes)
        raise UserError(failure)
    print_predictions(predictions, as_json=as_json, out=table_console(), notes=notes)
    print_line(notes, f"predictions: {home} and {request.destination}")
    if failure:
        raise UserError(failure)
    if any(prediction.error is not None for prediction in predictions):
        raise typer.Exit(1)


def images_only(files: Files) -> Files:
    """The files that are images; any other file would fail the whole job.

    Raises:
        UserError: there is no image among them.
    """
    paths = {key: path for key, path in files.paths.items() if path.suffix.lower() in CONTENT_TYPES}
    if not paths:
        endings = " ".join(CONTENT_TYPES)
        raise UserError(f"{files.root}: no images found, expected files with {endings}")
    others = [key for key in files.paths if key not in paths]
    notes = [left_out("not images", others)] if others else []
    return Files(files.root, paths, (*files.left_out, *notes))


def run(
    target: Target,
    job: Transform,
    hosting: Hosting | None,
    notes: Console,
    polling: Polling | None = None,
) -> str:
    """Create the job, wait for it, and delete the model if it was created for this job.

    Ctrl-C stops waiting; the job continues.

    Returns:
        "" if the job completed, or else one line with its status and failure reason. Either way S3
        has the predictions of every object that did not fail.
    """
    polling = polling or Polling()
    sagemaker = target.client("sagemaker")
    if hosting:
        sagemaker.create_model(**hosting.model())
    try:
        sagemaker.create_transform_job(**job.request())
    except Exception:
        _delete_model(sagemaker, hosting)
        raise
    try:
        described = _wait(target, job.name, notes, polling)
    except KeyboardInterrupt:
        print_line(notes, f"no longer waiting; transform job {job.name} continues")
        raise
    _delete_model(sagemaker, hosting)
    status = described["TransformJobStatus"]
    if status == "Completed":
        return ""
    reason = described.get("FailureReason", "no reason given")
    return f"transform job {job.name}: {status}: {reason}"


def print_log_tail(
    target: Target, name: str, notes: Console, wait: float = Polling().log_timeout
) -> None:
    """Print the end of a transform job's log."""
    lines = read_log_tail(target.client("logs"), TRANSFORM_JOBS, prefix=f"{name}/", wait=wait)
    if lines:
        print_line(notes, "the end of the container's log:")
        for line in lines:
            print_line(notes, f"  {line}")


def download_predictions(
    target: Target, job: Transform, to: Path, folder: Files | None
) -> list[ImagePrediction]:
    """Download every prediction to `to/<image>.out` and parse it."""
    s3 = target.client("s3", connections=DOWNLOADS)
    destination = Location.parse(job.destination)
    bucket, base = destination.bucket, destination.key.rstrip("/") + "/"
    keys = [
        entry["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=base)
        for entry in page.get("Contents", ())
        if entry["Key"].endswith(".out")
    ]

    def fetch(key: str) -> ImagePrediction:
        name = key.removeprefix(base)
        path = to / safe(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        path.write_bytes(body)
        return _read_prediction(name.removesuffix(".out"), body, folder)

    with (
        ThreadPoolExecutor(DOWNLOADS) as threads,
        ProgressBar("downloading predictions", len(keys), log=sys.stderr) as progress,
    ):
        predictions = []
        for prediction in threads.map(fetch, keys):
            predictions.append(prediction)
            progress.advance()
    return predictions


def missing_predictions(
    target: Target, job: Transform, found: list[ImagePrediction], folder: Files | None
) -> list[ImagePrediction]:
    """The images without a prediction, each with its error from the job's log."""
    names = list(folder.paths) if folder else _names(target, job.source)
    answered = {prediction.image.name for prediction in found}
    missing = [name for name in names if name not in answered]
    errors = transform_errors(target.client("logs"), TRANSFORM_JOBS, f"{job.name}/", missing)
    return [
        ImagePrediction(
            _image_file(name, folder),
            error=errors.get(name, "no prediction, and no error in the job's log"),
        )
        for name in missing
    ]


def _names(target: Target, source: str) -> list[str]:
    """The objects below an S3 prefix, named like the transform job's outputs without `.out`."""
    location = Location.parse(source)
    bucket, prefix = location.bucket, location.key
    inside = prefix.rstrip("/") + "/" if prefix else ""
    above = prefix[: prefix.rfind("/") + 1]
    return [
        entry["Key"].removeprefix(inside if entry["Key"].startswith(inside) else above)
        for page in target.client("s3")
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket, Prefix=prefix)
        for entry in page.get("Contents", ())
        if not entry["Key"].endswith("/")
    ]


def safe(name: str) -> PurePosixPath:
    """An object's name as a relative path inside the download folder.

    Raises:
        UserError: the path would be outside of it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"{name}: the object's name is a path outside the download folder")
    return path


def _read_prediction(name: str, body: bytes, folder: Files | None) -> ImagePrediction:
    image = _image_file(name, folder)
    try:
        (row,) = read_predictions(body, 1)
    except UserError as error:
        return ImagePrediction(image, error=str(error))
    return ImagePrediction(image, row)


def _image_file(name: str, folder: Files | None) -> ImageFile:
    parts = PurePosixPath(name).parts
    path = folder.paths.get(name, Path(name)) if folder else Path(name)
    return ImageFile(path, name, parts[-2] if len(parts) > 1 else None)


def _wait(target: Target, name: str, notes: Console, polling: Polling) -> dict[str, Any]:
    sagemaker = target.client("sagemaker")
    stopped = False

    def describe() -> dict[str, Any]:
        described: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
        return described

    subject = f"transform job {name}"
    for described, _ in poll(notes, subject, describe, "TransformJobStatus", polling):
        if described["TransformJobStatus"] in TERMINAL:
            break
        if target.where == "aws" and not stopped:
            # AWS keeps calling /ping for minutes; the local SageMaker fails the job at once.
            error = serving_error(target.client("logs"), TRANSFORM_JOBS, prefix=f"{name}/")
            if error:
                print_line(notes, f"the container cannot serve: {error}; stopping the job")
                sagemaker.stop_transform_job(TransformJobName=name)
                stopped = True
    return described


def _delete_model(sagemaker: Any, hosting: Hosting | None) -> None:
    if hosting is None:
        return
    try:
        sagemaker.delete_model(ModelName=hosting.resource_name)
    except Exception as error:
        if code(error) != "ValidationException":  # already deleted
            raise

"""A folder or an S3 prefix of images through a model, without an endpoint.

berth transform photos/test --job berth-20260102-030405
berth transform s3://bucket/photos/ --model flowers-20260102-030405 --where aws
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from rich.console import Console

from container.files.folders import left_out
from container.files.regular import LARGEST
from local.client import plan
from local.client.console import table_console
from local.client.images import CONTENT_TYPES, Picture
from local.client.log_tail import cannot_serve, failures_of, last_words
from local.client.model_source import find_model
from local.client.progress import Progress
from local.client.target import Target
from local.client.upload import Files, look, send
from local.commands.data import requests as upload_requests
from local.commands.deploy import Pace
from local.commands.options.shared import Common, pairs, with_common
from local.errors import UserError, code
from local.log_groups import TRANSFORM_JOBS
from local.requests.hosting import Hosting
from local.requests.transform import Transform
from local.results.predictions import Answer, read_predictions, show
from local.statuses import TERMINAL

DOWNLOADS = 16


@with_common
def transform(
    common: Common,
    source: Annotated[str, typer.Argument(help="a folder of images, or an S3 prefix")],
    job: Annotated[str | None, typer.Option(help="the training job whose model to use")] = None,
    model_data: Annotated[
        str | None, typer.Option(help="S3 URI of a model.tar.gz, instead of --job")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="a model that is there, instead of --job")
    ] = None,
    name: Annotated[str | None, typer.Option(help="the job's name (default: made up)")] = None,
    output: Annotated[
        str | None, typer.Option(metavar="S3-URI", help="where the answers go")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="folder for the answers (default: the job's name)")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="environment variable")
    ] = None,
    instance_type: Annotated[str, typer.Option(help="type of the instances")] = "ml.m5.large",
    instance_count: Annotated[int, typer.Option(min=1, help="how many of them")] = 1,
    kms_key: Annotated[str | None, typer.Option(help="KMS key of volumes and answers")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines instead of a table")] = False,
) -> None:
    """Predict every image, and bring the answers home as `<image>.out`."""
    if model and (job or model_data):
        raise UserError("--model: found --job or --model-data as well, expected one of them")
    folder = None
    if not source.startswith("s3://"):
        folder = images_only(look(Path(source), strict=False, largest=LARGEST))
    target = common.connect(needs_role=model is None)
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    name = name or f"transform-{stamp}"
    own_prefix = f"transform/{name}/input/"
    hosting = None
    if model is None:
        found = find_model(target, job=job, model_data=model_data, image_uri=common.image_uri)
        hosting = Hosting(
            name=name,
            image_uri=found.image_uri,
            model_data=found.model_data,
            role=target.role,
            stamp=stamp,
            tags=target.tags,
        )
    asked = Transform(
        name=name,
        model=model or (hosting.resource_name if hosting else ""),
        source=f"s3://{target.bucket}/{own_prefix}" if folder else source,
        destination=output or f"s3://{target.bucket}/transform/{name}/output",
        instance_type=instance_type,
        instance_count=instance_count,
        kms_key=kms_key,
        environment=pairs(env or (), "--env"),
        tags=target.tags,
    )
    if target.plan:
        sent: list[tuple[str, dict[str, Any]]] = []
        if folder:
            sent += upload_requests(target.bucket, own_prefix)
        if hosting:
            sent.append(("CreateModel", hosting.model()))
        plan.show(target, [*sent, ("CreateTransformJob", asked.request())])
        return
    notes = Console(stderr=True)
    for line in folder.left_out if folder else ():
        _say(notes, line)
    target.ensure_bucket()
    if folder:
        send(
            target.client("s3", connections=24), folder, target.bucket, own_prefix, kms_key=kms_key
        )
    trouble = run(target, asked, hosting, notes)
    home = to or Path(name)
    answers = fetch(target, asked, home, folder)
    if trouble:
        answers += unanswered(target, asked, answers, folder)
    if not any(answer.error is None for answer in answers) and trouble:
        say_last_words(target, name, notes)
        raise UserError(trouble)
    show(answers, as_json=as_json, out=table_console(), notes=notes)
    _say(notes, f"answers: {home} and {asked.destination}")
    if trouble:
        raise UserError(trouble)
    if any(answer.error is not None for answer in answers):
        raise typer.Exit(1)


def images_only(files: Files) -> Files:
    """Without the files that are no images, which would fail the whole job.

    Raises:
        UserError: there is no image among them.
    """
    paths = {key: path for key, path in files.paths.items() if path.suffix.lower() in CONTENT_TYPES}
    if not paths:
        endings = " ".join(CONTENT_TYPES)
        raise UserError(f"{files.root}: no image in it, expected files that end in {endings}")
    others = [key for key in files.paths if key not in paths]
    said = [left_out("no images", others)] if others else []
    return Files(files.root, paths, (*files.left_out, *said))


def run(
    target: Target,
    asked: Transform,
    hosting: Hosting | None,
    notes: Console,
    pace: Pace | None = None,
) -> str:
    """Send the requests and wait until the job has ended; a model made for it is deleted again.

    Ctrl-C ends the waiting, not the job.

    Returns:
        How the job ended if it did not complete, in a line; "" if it did. Either way S3 holds the
        answers of all objects but those that failed.
    """
    pace = pace or Pace()
    sagemaker = target.client("sagemaker")
    if hosting:
        sagemaker.create_model(**hosting.model())
    try:
        sagemaker.create_transform_job(**asked.request())
    except Exception:
        _delete_model(sagemaker, hosting)
        raise
    try:
        described = _wait(target, asked.name, notes, pace)
    except KeyboardInterrupt:
        _say(notes, f"no longer waiting; transform job {asked.name} goes on")
        raise
    _delete_model(sagemaker, hosting)
    status = described["TransformJobStatus"]
    if status == "Completed":
        return ""
    why = described.get("FailureReason", "no reason given")
    return f"transform job {asked.name}: {status}: {why}"


def say_last_words(target: Target, name: str, notes: Console, wait: float = Pace().words) -> None:
    """Show the end of a transform job's log."""
    words = last_words(target.client("logs"), TRANSFORM_JOBS, prefix=f"{name}/", wait=wait)
    if words:
        _say(notes, "the container's last words:")
        for line in words:
            _say(notes, f"  {line}")


def fetch(target: Target, asked: Transform, to: Path, folder: Files | None) -> list[Answer]:
    """Download every answer to `to` under its image's name with `.out`, and read it."""
    s3 = target.client("s3", connections=DOWNLOADS)
    bucket, prefix = split_uri(asked.destination)
    base = prefix.rstrip("/") + "/"
    keys = [
        entry["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=base)
        for entry in page.get("Contents", ())
        if entry["Key"].endswith(".out")
    ]

    def one(key: str) -> Answer:
        name = key.removeprefix(base)
        path = to / safe(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        path.write_bytes(body)
        return _answer(name.removesuffix(".out"), body, folder)

    with (
        ThreadPoolExecutor(DOWNLOADS) as threads,
        Progress("fetching answers", len(keys)) as progress,
    ):
        answers = []
        for answer in threads.map(one, keys):
            answers.append(answer)
            progress.advance()
    return answers


def unanswered(
    target: Target, asked: Transform, answers: list[Answer], folder: Files | None
) -> list[Answer]:
    """The images that have no answer, each with what the job's log says of it."""
    names = list(folder.paths) if folder else _names(target, asked.source)
    answered = {answer.picture.name for answer in answers}
    missing = [name for name in names if name not in answered]
    said = failures_of(target.client("logs"), TRANSFORM_JOBS, f"{asked.name}/", missing)
    return [
        Answer(
            _picture(name, folder), error=said.get(name, "no answer, the log says nothing of it")
        )
        for name in missing
    ]


def _names(target: Target, source: str) -> list[str]:
    """The objects below an S3 prefix, named as a transform job names their outputs."""
    bucket, prefix = split_uri(source)
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


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def safe(name: str) -> PurePosixPath:
    """An object's name as a relative path that stays in its folder.

    Raises:
        UserError: it would leave it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"{name}: an object's name that leads out of the folder")
    return path


def _answer(name: str, body: bytes, folder: Files | None) -> Answer:
    picture = _picture(name, folder)
    try:
        (row,) = read_predictions(body, 1)
    except UserError as error:
        return Answer(picture, error=str(error))
    return Answer(picture, row)


def _picture(name: str, folder: Files | None) -> Picture:
    parts = PurePosixPath(name).parts
    path = folder.paths.get(name, Path(name)) if folder else Path(name)
    return Picture(path, name, parts[-2] if len(parts) > 1 else None)


def _wait(target: Target, name: str, notes: Console, pace: Pace) -> dict[str, Any]:
    sagemaker = target.client("sagemaker")
    stopped = False
    started, told = time.monotonic(), ""
    with notes.status(f"transform job {name}: asked for") as status:
        while True:
            described: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
            state = described["TransformJobStatus"]
            passed = time.monotonic() - started
            status.update(f"transform job {name}: {state}, {passed:.0f} s")
            if state != told and not notes.is_terminal:
                _say(notes, f"transform job {name}: {state}")
                told = state
            if state in TERMINAL:
                return described
            if target.where == "aws" and not stopped:
                # AWS asks the container's /ping for minutes more; the local SageMaker does not.
                why = cannot_serve(target.client("logs"), TRANSFORM_JOBS, prefix=f"{name}/")
                if why:
                    _say(notes, f"its container cannot serve: {why}; stopping the job")
                    sagemaker.stop_transform_job(TransformJobName=name)
                    stopped = True
            time.sleep(pace.pause(passed))


def _delete_model(sagemaker: Any, hosting: Hosting | None) -> None:
    if hosting is None:
        return
    try:
        sagemaker.delete_model(ModelName=hosting.resource_name)
    except Exception as error:
        if code(error) != "ValidationException":  # gone already
            raise


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    from local.cli import main

    sys.exit(main("transform"))

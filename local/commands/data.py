"""`berth data`: fetch, import, check and upload training images.

berth data fetch digits photos
berth data import labels.csv photos
berth data lint photos
berth data upload photos
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from container.extras import extra_missing
from container.files.folders import is_utf8, readable
from container.files.regular import LARGEST
from local.client import plan
from local.client.upload import WORKERS, scan_folder, upload_files
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError

NEEDED = ("numpy", "PIL", "simplejpeg")
"""Packages of the extra `image` that the container's data commands need."""

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Fetch, import, check and upload images."
)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    help="Write a data set as a folder of images: digits, cifar10, dogs, or your own folder or "
    "archive.",
)
def fetch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="digits, cifar10, dogs or folder")],
    dest: Annotated[Path, typer.Argument(help="the folder to create")],
) -> None:
    """Write a data set; other options go to its source: `--archive`, `--from`, `--seed`, …"""
    raise typer.Exit(run_module("container.data.sources", [name, str(dest), *context.args]))


@app.command(
    "import",
    help="Sort images into class folders by a label file: CSV, augmented manifest or MXNet .lst. "
    "With several files, such as train.lst and val.lst, each one is a split.",
)
def import_labels(
    labels: Annotated[
        list[Path], typer.Argument(help="label files, or the folder that contains them")
    ],
    dest: Annotated[Path, typer.Argument(help="the folder to create")],
    images: Annotated[
        Path | None,
        typer.Option(help="folder that image paths are relative to (default: the label file's)"),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="copy the images, do not link them")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="write nothing if a row is bad")] = False,
    path_column: Annotated[str | None, typer.Option(help="column or key of the paths")] = None,
    label_column: Annotated[str | None, typer.Option(help="column or key of the labels")] = None,
    split_column: Annotated[str | None, typer.Option(help="column or key of the splits")] = None,
) -> None:
    """Link the images into class folders; exit with status 1 if a row was bad."""
    arguments = [str(dest)]
    for path in labels:
        arguments += ["--labels", str(path)]
    for option, value in (
        ("--images", images),
        ("--path-column", path_column),
        ("--label-column", label_column),
        ("--split-column", split_column),
    ):
        arguments += [] if value is None else [f"{option}={value}"]
    arguments += ["--copy"] * copy + ["--strict"] * strict
    raise typer.Exit(run_module("container.data.sources", ["labels", *arguments]))


@app.command(help="Check every image: damaged files, duplicates across splits, empty classes.")
def lint(
    folder: Annotated[
        Path, typer.Argument(help="train/ validation/ test/, or class folders, or tar shards")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Check a folder; exit with status 1 if there are findings."""
    flags = ["--json"] if as_json else []
    raise typer.Exit(run_module("container.data.lint", [str(folder), *flags]))


@app.command(help="Upload a folder's new and changed files to S3 and print the S3 URI.")
@with_common
def upload(
    common: CommonOptions,
    folder: Annotated[Path, typer.Argument(help="the folder")],
    prefix: Annotated[
        str | None, typer.Option(help="key prefix in the bucket (default: data/FOLDER'S NAME)")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="delete objects that are not in the folder")
    ] = False,
    check: Annotated[
        bool, typer.Option("--lint/--no-lint", help="check the images before the upload")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="upload nothing if the check has findings")
    ] = False,
    kms_key: Annotated[str | None, typer.Option(help="KMS key that encrypts the objects")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="parallel uploads")] = WORKERS,
) -> None:
    """Upload a folder's files; a second upload sends only what changed.

    Findings of the check are warnings, because training skips such files; with `--strict` they are
    errors.
    """
    console, notes = Console(), Console(stderr=True)
    files = scan_folder(folder, strict=strict, largest=LARGEST if check else None)
    target = common.connect(needs_role=False)
    where = normalize_prefix(prefix) if prefix is not None else f"data/{folder.resolve().name}/"
    if not is_utf8(where):
        raise UserError(
            f"{readable(where)}: not UTF-8, which S3 keys must be; choose another with --prefix"
        )
    for line in files.left_out:
        notes.print(line, highlight=False, markup=False, soft_wrap=True)
    uri = f"s3://{target.bucket}/{where}"
    if target.plan:
        plan.show(target, upload_requests(target.bucket, where, delete=delete), console)
        console.print(f"upload {len(files.paths):,} files, {files.size:,} bytes, to {uri}")
        return
    flags = [] if strict else ["--exit-zero"]
    if check and run_module("container.data.lint", [str(folder), *flags], stdout=sys.stderr):
        other = "omit --strict" if strict else "upload it as it is with --no-lint"
        raise UserError(f"{readable(str(folder))}: see the findings above; fix them, or {other}")
    target.ensure_bucket()
    s3 = target.client("s3", connections=parallel)
    done = upload_files(
        s3, files, target.bucket, where, kms_key=kms_key, delete=delete, workers=parallel
    )
    summary = f"{done.sent:,} files uploaded ({done.bytes:,} bytes), {done.unchanged:,} unchanged"
    if done.extra:
        what = "deleted" if delete else "not in the folder (--delete deletes them)"
        summary += f", {len(done.extra):,} {what}"
    notes.print(summary, highlight=False)
    console.print(uri, soft_wrap=True, highlight=False)


def normalize_prefix(prefix: str) -> str:
    """The prefix with one slash at its end and none at its start; "" for the bucket's root."""
    bare = prefix.strip("/")
    return f"{bare}/" if bare else ""


def upload_requests(
    bucket: str, prefix: str, *, delete: bool = False
) -> list[tuple[str, dict[str, str]]]:
    """The requests of an upload, for `--plan`; one PutObject stands for all files."""
    objects = {"Bucket": bucket, "Key": f"{prefix}*"}
    created = [("CreateBucket", {"Bucket": bucket}), ("PutObject", objects)]
    return [*created, ("DeleteObject", objects)] if delete else created


def run_module(
    module: str,
    arguments: Sequence[str],
    needed: Sequence[str] = NEEDED,
    stdout: TextIO | None = None,
) -> int:
    """Run one of the container's modules with this Python and return its exit status.

    Its output goes to `stdout`, by default this command's.

    Raises:
        UserError: a package that it needs is not installed.
    """
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise UserError(extra_missing(f"this command needs {', '.join(missing)}", "image"))
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, stdout=stdout, check=False).returncode

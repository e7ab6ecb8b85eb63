"""A job's input channels, from the layout of an S3 prefix or a folder."""

import functools
import os
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from container.errors import DataError
from container.files.folders import (
    ContentsOf,
    FolderContents,
    contents_below,
    find_layout,
    is_utf8,
    readable,
)
from local.client.target import Target
from local.errors import UserError, code
from local.s3_location import BadLocation, Location


def given_location(field: str, uri: str) -> Location:
    """The location that a user gave as `field`.

    Raises:
        UserError: it is not `s3://bucket/key`.
    """
    try:
        return Location.parse(uri)
    except BadLocation as error:
        raise UserError(f"{field}: {error}") from None


def find_channels(target: Target, data: str) -> dict[str, str]:
    """The channels of `data`: `s3://bucket/prefix`, `file:///folder` or a folder's path.

    It contains `train`, `validation` and `test`, or their usual other names, each with class
    folders. Without a `train` that has class folders, all of `data` is the channel `train`; so is
    an S3 prefix with --plan while no local SageMaker is running.

    Raises:
        UserError: there are no files, a split exists under two names, or `data` is a folder but the
            target is AWS.
    """
    if data.startswith("s3://"):
        source = given_location("data", data)
        bucket, prefix = source.bucket, source.key
        prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        root = f"s3://{bucket}/{prefix}"
        if target.where == "local" and target.url is None:
            return {"train": root}
        return _channels(root, lambda path: _s3_contents(target, bucket, f"{prefix}{path}"))
    folder = _folder(data)
    if target.where == "aws":
        raise UserError(
            f"data: {data} is on this machine; upload it first: berth data upload {data}"
        )
    root = folder.as_uri() + "/"
    found = _channels(root, contents_below(folder))
    return {
        split: root + quote(os.fsencode(uri.removeprefix(root))) for split, uri in found.items()
    }


def _folder(data: str) -> Path:
    parts = urlsplit(data)
    if parts.scheme not in ("", "file"):
        raise UserError(f"data: found {data!r}, expected s3://bucket/prefix or a folder")
    path = Path(unquote(parts.path) if parts.scheme else data)
    with suppress(RuntimeError):  # a user without a home folder
        path = path.expanduser()
    path = path.resolve()
    if not path.is_dir():
        raise UserError(f"data: {path}: not a folder, expected images or s3://bucket/prefix")
    if not is_utf8(str(path)):
        raise UserError(f"data: {readable(str(path))}: the name is not UTF-8; rename the folder")
    return path


def _channels(root: str, contents_of: ContentsOf) -> dict[str, str]:
    contents_of = functools.cache(contents_of)
    if not contents_of(""):
        raise UserError(f"data: nothing found at {root}")
    try:
        layout = find_layout(contents_of, root)
    except DataError as error:
        raise UserError(f"data: {error}") from None
    for note in layout.notes:
        print(f"data: {note}", file=sys.stderr)
    return {split: f"{root}{path}" for split, path in layout.splits.items()}


def _s3_contents(target: Target, bucket: str, prefix: str) -> FolderContents:
    """The names directly below a prefix."""
    from botocore.exceptions import ClientError

    pages = target.client("s3").get_paginator("list_objects_v2")
    folders: set[str] = set()
    files: set[str] = set()
    try:
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            folders |= {
                each["Prefix"][len(prefix) :].rstrip("/") for each in page.get("CommonPrefixes", ())
            }
            files |= {each["Key"][len(prefix) :] for each in page.get("Contents", ())}
    except ClientError as error:
        if code(error) == "NoSuchBucket":
            raise UserError(f"data: no such bucket: {bucket}") from None
        raise
    # The S3 console creates an empty object named after the prefix for a new folder.
    return FolderContents.of(folders, files - {""})

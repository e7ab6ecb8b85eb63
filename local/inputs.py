"""Where a job's images are: the channels below an S3 prefix or a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from local.errors import UserError, code
from local.place import Place

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
"""The channels our image knows, and the folder names each may have."""


def find_channels(place: Place, data: str) -> dict[str, str]:
    """The channels of `data`: `s3://bucket/prefix`, `file:///folder` or a folder's path.

    Below it lie `train`, `validation` and `test` (or `training`, `valid`, `val`) of class folders;
    without a `train` that holds class folders, everything is one channel `train`. When planning
    without a local SageMaker to ask, an S3 prefix counts as one channel.

    Raises:
        UserError: nothing is there, a split is there by two names, or a folder is given for AWS.
    """
    if data.startswith("s3://"):
        bucket, _, prefix = data.removeprefix("s3://").partition("/")
        if not bucket:
            raise UserError(f"data: found {data!r}, expected s3://bucket/prefix")
        prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        root = f"s3://{bucket}/{prefix}"
        if place.where == "local" and place.url is None:
            return {"train": root}
        return _channels(root, lambda name: _s3_folders(place, bucket, f"{prefix}{name}"))
    folder = _folder(data)
    if place.where == "aws":
        raise UserError(
            f"data: {data} is on this machine; upload it first: berth data upload {data}"
        )
    root = folder.as_uri() + "/"
    return _channels(root, lambda name: _local_folders(folder / name))


def _folder(data: str) -> Path:
    parts = urlsplit(data)
    if parts.scheme not in ("", "file"):
        raise UserError(f"data: found {data!r}, expected s3://bucket/prefix or a folder")
    path = Path(unquote(parts.path) if parts.scheme else data).expanduser().resolve()
    if not path.is_dir():
        raise UserError(f"data: {path} is no folder; expected one of images, or s3://bucket/prefix")
    return path


def _channels(root: str, folders: Callable[[str], set[str] | None]) -> dict[str, str]:
    present = folders("")
    if present is None:
        raise UserError(f"data: nothing found at {root}")
    found: dict[str, str] = {}
    for split, names in SPLITS.items():
        here = [name for name in names if name in present]
        if len(here) > 1:
            raise UserError(f"data: found both {' and '.join(here)} at {root}, expected one")
        if here:
            found[split] = here[0]
    # A class may be called "train" too: a split's folder holds class folders, a class's does not.
    if "train" not in found or not folders(found["train"] + "/"):
        return {"train": root}
    return {split: f"{root}{name}/" for split, name in found.items()}


def _s3_folders(place: Place, bucket: str, prefix: str) -> set[str] | None:
    """Names of the folders right below a prefix; None when no object is there."""
    from botocore.exceptions import ClientError

    pages = place.client("s3").get_paginator("list_objects_v2")
    names: set[str] = set()
    empty = True
    try:
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            empty = empty and not page.get("KeyCount")
            names |= {
                each["Prefix"][len(prefix) :].rstrip("/") for each in page.get("CommonPrefixes", ())
            }
    except ClientError as error:
        if code(error) == "NoSuchBucket":
            raise UserError(f"data: there is no bucket {bucket}") from None
        raise
    return None if empty else {name for name in names if not name.startswith(".")}


def _local_folders(folder: Path) -> set[str] | None:
    entries = [each for each in folder.iterdir() if not each.name.startswith(".")]
    return {each.name for each in entries if each.is_dir()} if entries else None

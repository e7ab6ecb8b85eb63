"""Validation of input and output locations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from local.emulator.api.validation.fields import unsupported
from local.emulator.context import Context
from local.emulator.errors import ServiceError, invalid
from local.s3_location import BadLocation, Location

DATA_TYPES = ("S3Prefix", "ManifestFile")
"""The supported S3DataTypes."""
AUGMENTED_MANIFEST = "AugmentedManifestFile"
NO_AUGMENTED_MANIFEST = (
    "expected S3Prefix or ManifestFile; `berth data import` makes an image folder of the manifest"
)


def bucket_and_key(uri: str, field: str) -> tuple[str, str]:
    """The parts of `s3://bucket/key`.

    Raises:
        ServiceError: it is not such a URI.
    """
    try:
        place = Location.parse(uri)
    except BadLocation:
        raise unsupported(f"{field} '{uri}'", "expected s3://bucket/prefix") from None
    return place.bucket, place.key


def path_of(uri: str, field: str) -> Path:
    """The path of `file:///…`, which must exist and must not be an empty folder.

    Raises:
        ServiceError: it does not exist, is empty, or cannot be read.
    """
    path = Path(unquote(urlsplit(uri).path))
    try:
        if not path.exists():
            raise invalid(f"{field} is '{uri}'; no such file or folder on this machine.")
        if path.is_dir() and not any(path.iterdir()):
            raise invalid(f"{field} is '{uri}'; the folder is empty.")
    except OSError as error:
        raise invalid(f"{field} is '{uri}', which cannot be read: {error.strerror}.") from None
    return path


def check_input(source: dict[str, Any], field: str, role: str | None, context: Context) -> None:
    """Check that there is something to read at an S3DataSource, `s3://` or `file://`.

    Raises:
        ServiceError: there is nothing; for S3 the message is AWS's.
    """
    kind, uri = source["S3DataType"], source["S3Uri"]
    if kind not in DATA_TYPES:
        expected = f"expected {' or '.join(DATA_TYPES)}"
        if kind == AUGMENTED_MANIFEST:
            expected = NO_AUGMENTED_MANIFEST
        raise unsupported(f"{field}: S3DataType '{kind}'", expected)
    field = f"{field}: S3Uri"
    if uri.startswith("file://") and kind == "S3Prefix":
        path_of(uri, field)
        return
    bucket, prefix = bucket_and_key(uri, field)
    found = context.objects.keys(bucket, prefix)
    if kind == "ManifestFile":
        found = [stored for stored in found if stored.key == prefix]
    if not found:
        raise _no_objects(uri, field, bucket, role, context)


def _no_objects(
    uri: str, field: str, bucket: str, role: str | None, context: Context
) -> ServiceError:
    exists = context.objects.bucket_exists(bucket)
    found = "has no object under it" if exists else "does not exist"
    return invalid(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that '
        f"the bucket exists in the selected region ({context.region}), that objects exist under "
        f'that S3 prefix, and that the role "{role or "of the model"}" has "s3:ListBucket" '
        f'permissions on bucket "{bucket}". ({field}: the local bucket {bucket} {found}.)'
    )


def check_output(uri: str, field: str, context: Context) -> None:
    """Check that the bucket of an output URI exists.

    Raises:
        ServiceError: it does not, or the URI is not `s3://`.
    """
    bucket, _ = bucket_and_key(uri, field)
    if not context.objects.bucket_exists(bucket):
        raise invalid(
            f"{field} is '{uri}'; the local bucket {bucket} does not exist: create it first."
        )


def check_outputs(
    request: Mapping[str, Any], fields: Mapping[str, str], context: Context, where: str = ""
) -> None:
    """Check each output URI among `fields` (structure → its member) that the request has.

    Raises:
        ServiceError: a bucket does not exist.
    """
    for name, member in fields.items():
        uri = request.get(name, {}).get(member)
        if uri is not None:
            check_output(uri, f"{where}{name}.{member}", context)

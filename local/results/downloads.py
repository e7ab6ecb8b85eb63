"""Download of a training job's results: `model.tar.gz` and the unpacked `output.tar.gz`."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from container.files.archives import BadArchive
from local import archives
from local.client.target import Target
from local.errors import UserError, code
from local.s3_location import Location

MODEL = "model.tar.gz"
OUTPUT = "output"
"""The subfolder for the contents of `output.tar.gz`."""
LARGEST = 16 * 1024**3
"""Largest unpacked size of a job's output in bytes, 1,000 times the size berth's image writes."""


def artifacts(job: Mapping[str, Any]) -> dict[str, str]:
    """The S3 URIs of a training job's `model.tar.gz` and `output.tar.gz`."""
    root = job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    folder = f"{root}/{job['TrainingJobName']}/output"
    model = job.get("ModelArtifacts", {}).get("S3ModelArtifacts") or f"{folder}/{MODEL}"
    return {MODEL: model, "output.tar.gz": f"{folder}/output.tar.gz"}


def download_results(
    target: Target, job: Mapping[str, Any], folder: Path, *, model: bool = True
) -> list[Path]:
    """Download a training job's results to `folder`.

    Returns:
        The paths of the model archive and of the folder of unpacked outputs, if the job wrote them.

    Raises:
        UserError: an archive is corrupt or unsafe.
    """
    uris = artifacts(job)
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    if model and download(target, uris[MODEL], folder / MODEL):
        found.append(folder / MODEL)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".berth-") as scratch:
        archive = Path(scratch) / "output.tar.gz"
        if download(target, uris["output.tar.gz"], archive):
            unpacked = Path(scratch) / OUTPUT
            unpack(archive, unpacked)
            outputs = folder / OUTPUT
            if outputs.exists():
                shutil.rmtree(outputs)
            unpacked.rename(outputs)
            found.append(outputs)
    return found


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an `output.tar.gz` into `folder`, which must not exist.

    Raises:
        UserError: it is corrupt or too large, or it contains a link, a device or a path outside
            `folder`.
    """
    folder.mkdir(parents=True)
    try:
        archives.unpack(archive, folder, limit=LARGEST)
    except (BadArchive, OSError) as error:
        raise UserError(f"{archive.name}: cannot be unpacked: {error}") from None


def download(target: Target, uri: str, path: Path) -> bool:
    """Download an object to `path` atomically; return whether it exists."""
    from botocore.exceptions import ClientError

    source = Location.parse(uri)
    part = path.with_name(f".{path.name}.part")
    try:
        target.client("s3").download_file(source.bucket, source.key, str(part))
    except ClientError as error:
        if code(error) in ("404", "NoSuchKey", "NoSuchBucket"):
            return False
        raise
    else:
        part.replace(path)
        return True
    finally:
        part.unlink(missing_ok=True)


def find_output(folder: Path, name: str) -> Path | None:
    """The first file with this name among a job's unpacked outputs; None if there is none."""
    return next(iter(sorted((folder / OUTPUT).rglob(name))), None)

"""What a training job left in S3, brought home: `model.tar.gz`, and `output.tar.gz` unpacked."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from container.files.archives import BadArchive
from local import archives
from local.client.target import Target
from local.errors import UserError, code

MODEL = "model.tar.gz"
OUTPUT = "output"
"""Where, in the job's folder, the contents of `output.tar.gz` lie."""
LARGEST = 16 * 1024**3
"""Bytes a job's output may unpack to: our image's outputs are a thousandth of this."""


def artifacts(job: Mapping[str, Any]) -> dict[str, str]:
    """S3 URIs of a training job's archives: `model.tar.gz` and `output.tar.gz`."""
    root = job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    folder = f"{root}/{job['TrainingJobName']}/output"
    model = job.get("ModelArtifacts", {}).get("S3ModelArtifacts") or f"{folder}/{MODEL}"
    return {MODEL: model, "output.tar.gz": f"{folder}/output.tar.gz"}


def download_results(
    target: Target, job: Mapping[str, Any], folder: Path, *, model: bool = True
) -> list[Path]:
    """Download what the job left to `folder`; what it did not leave is left out.

    Returns:
        What now lies there: the model's archive, the folder of unpacked outputs.

    Raises:
        UserError: an archive holds what a job's may not.
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
    """Unpack an `output.tar.gz` into `folder`, which must be new.

    Raises:
        UserError: it is corrupt, too large, or holds a link, a device or a path that leads out.
    """
    folder.mkdir(parents=True)
    try:
        archives.unpack(archive, folder, limit=LARGEST)
    except (BadArchive, OSError) as error:
        raise UserError(f"{archive.name}: cannot be unpacked: {error}") from None


def download(target: Target, uri: str, path: Path) -> bool:
    """Fetch an object; whether it was there. `path` is complete or untouched."""
    from botocore.exceptions import ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    part = path.with_name(f".{path.name}.part")
    try:
        target.client("s3").download_file(bucket, key, str(part))
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
    """A file among a job's unpacked outputs, wherever it lies."""
    return next(iter(sorted((folder / OUTPUT).rglob(name))), None)

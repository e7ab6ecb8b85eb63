"""What a training job left in S3, brought home: `model.tar.gz`, and `output.tar.gz` unpacked."""

import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from local.client.target import Place
from local.errors import UserError, code

MODEL = "model.tar.gz"
OUTPUT = "output"
"""Where, in the job's folder, the contents of `output.tar.gz` lie."""
LARGEST = 16 * 1024**3
MOST_FILES = 100_000
"""Bytes and files an archive may hold: our image's outputs are a thousandth of either."""


def artifacts(job: Mapping[str, Any]) -> dict[str, str]:
    """S3 URIs of a training job's archives: `model.tar.gz` and `output.tar.gz`."""
    root = job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    folder = f"{root}/{job['TrainingJobName']}/output"
    model = job.get("ModelArtifacts", {}).get("S3ModelArtifacts") or f"{folder}/{MODEL}"
    return {MODEL: model, "output.tar.gz": f"{folder}/output.tar.gz"}


def bring_home(
    place: Place, job: Mapping[str, Any], folder: Path, *, model: bool = True
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
    if model and download(place, uris[MODEL], folder / MODEL):
        found.append(folder / MODEL)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".berth-") as scratch:
        archive = Path(scratch) / "output.tar.gz"
        if download(place, uris["output.tar.gz"], archive):
            unpacked = Path(scratch) / OUTPUT
            unpack(archive, unpacked)
            target = folder / OUTPUT
            if target.exists():
                shutil.rmtree(target)
            unpacked.rename(target)
            found.append(target)
    return found


def unpack(archive: Path, folder: Path) -> None:
    """Unpack regular files and folders of a tar into `folder`, which must be new.

    Raises:
        UserError: it is no tar, or holds a link, a device, a path that leaves the folder, or too
            much.
    """
    folder.mkdir(parents=True)
    size = count = 0
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                name = PurePosixPath(entry.name)
                count += 1
                size += entry.size
                if name.is_absolute() or ".." in name.parts:
                    raise UserError(f"{archive.name}: {entry.name!r} leaves its folder; refused")
                if not (entry.isreg() or entry.isdir()):
                    raise UserError(
                        f"{archive.name}: {entry.name!r} is a link or a device; refused"
                    )
                if size > LARGEST or count > MOST_FILES:
                    raise UserError(
                        f"{archive.name}: more than {LARGEST:,} bytes or {MOST_FILES:,} files"
                    )
                _write(tar, entry, folder.joinpath(*name.parts))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive.name}: cannot be unpacked: {error}") from None


def download(place: Place, uri: str, path: Path) -> bool:
    """Fetch an object; whether it was there. `path` is complete or untouched."""
    from botocore.exceptions import ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    part = path.with_name(f".{path.name}.part")
    try:
        place.client("s3").download_file(bucket, key, str(part))
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


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    if entry.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(entry)
    if source is not None:
        with source, path.open("wb") as target:
            shutil.copyfileobj(source, target)

"""Features as a job's output, and as another job's `features` channel."""

import os
import shutil
from pathlib import Path

from container.errors import FeatureError
from container.features.cache import FOLDER
from container.features.store import DESCRIPTION
from container.files.archives import ArchiveLimits, BadArchive, members
from container.training.checkpoint import disk_full, is_disk_full

ARCHIVE = "model.tar.gz"
"""Name of a job's packed model in S3."""
_MAX_DEPTH = 3
_LIMITS = ArchiveLimits(files=100_000, file_bytes=1 << 42, total_bytes=1 << 42)


def write_features(kept: list[Path], model_dir: Path) -> None:
    """Link or copy folders and files of a cache into `features/` of the model.

    Raises:
        TrainingError: the disk is full.
    """
    target = model_dir / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    try:
        target.mkdir(parents=True)
        for path in kept:
            if path.is_dir():
                shutil.copytree(path, target / path.name, copy_function=_link)
            elif path.exists():
                _link(str(path), str(target / path.name))
    except (OSError, shutil.Error) as error:
        shutil.rmtree(target, ignore_errors=True)
        if is_disk_full(error):
            raise disk_full(target) from None
        raise


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def find_channel(channel: Path | None, unpacked: Path) -> Path | None:
    """The folder in a `features` channel whose subfolders are features, named by their keys.

    It may be anywhere in the channel, or in a `model.tar.gz` from SageMaker.

    Args:
        channel: the channel's folder; None if the job has none.
        unpacked: where to unpack an archive.

    Raises:
        FeatureError: there is none, or the archive is damaged.
    """
    if channel is None:
        return None
    archives = sorted(channel.rglob(ARCHIVE))
    folder = channel
    if archives and not _feature_folders(channel):
        _unpack(archives[0], unpacked)
        folder = unpacked
    found = _feature_folders(folder)
    if not found:
        names = ", ".join(sorted(path.name for path in channel.iterdir())[:5]) or "nothing"
        raise FeatureError(
            f"channel 'features' ({channel}): found {names}, expected the output of a job with "
            f"features_only=true: a folder with {DESCRIPTION} for each key, or {ARCHIVE}"
        )
    return found[0]


def _feature_folders(folder: Path) -> list[Path]:
    """Folders whose subfolders are features, the topmost first."""
    held = [
        path.parent.parent
        for depth in range(_MAX_DEPTH)
        for path in sorted(folder.glob("*/" * (depth + 1) + DESCRIPTION))
    ]
    return list(dict.fromkeys(held))


def _unpack(archive: Path, into: Path) -> None:
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        for member in members(archive, _LIMITS.within(into)):
            if not member.is_folder:
                member.copy_to(into / member.path)
    except (BadArchive, FileExistsError) as error:
        shutil.rmtree(into, ignore_errors=True)
        raise FeatureError(f"channel 'features': {archive}: {error}") from None
    except OSError as error:
        shutil.rmtree(into, ignore_errors=True)
        if is_disk_full(error):
            raise disk_full(into) from None
        raise

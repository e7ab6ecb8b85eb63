"""Sync of a running container's folders to S3: checkpoints and other live output."""

import logging
import threading
from pathlib import Path, PurePosixPath

from local.emulator.ports import Objects
from local.emulator.training.archive import walk
from local.s3_location import Location

Stamp = tuple[int, int]
"""A file's modification time in ns and its size in bytes, to detect changes."""

_log = logging.getLogger(__name__)


class Mirror:
    """Uploads the files of a folder to S3.

    A file is uploaded once it is the same in two scans, because it may still be being written.
    Files that are deleted in the folder stay in S3, as on SageMaker. Links are skipped.

    Args:
        objects: the local S3.
        folder: the folder, which does not have to exist.
        place: the S3 prefix.
        tree: the host's `/opt/ml` with the folder in it; links below it are not followed.
        unfinished: suffixes of files and folders to skip because they are incomplete.
    """

    def __init__(
        self,
        objects: Objects,
        folder: Path,
        place: Location,
        tree: Path | None = None,
        unfinished: tuple[str, ...] = (),
    ) -> None:
        self._objects, self._folder, self._place, self._tree = objects, folder, place, tree
        self._unfinished = unfinished
        self._seen: dict[Path, Stamp] = {}
        self._kept: dict[Path, Stamp] = {}
        self._lock = threading.Lock()

    def restore(self) -> int:
        """Download the objects to the folder, and return their number.

        Raises:
            OSError: the disk is full, or a key is not a valid path.
        """
        prefix = f"{self._place.key.rstrip('/')}/".lstrip("/")
        count = 0
        for stored in self._objects.keys(self._place.bucket, prefix):
            name = PurePosixPath(stored.key[len(prefix) :])
            if stored.key.endswith("/"):
                continue
            if name.is_absolute() or ".." in name.parts or not name.parts:
                raise OSError(
                    f"the checkpoint {stored.key!r} cannot be a file: its key is not a valid path"
                )
            self._copy(stored.key, self._folder / name)
            count += 1
        return count

    def sync(self, *, settled: bool = False) -> int:
        """Upload new and changed files, and return their number.

        With `settled`, the containers have ended, so files are uploaded without a second scan.

        Raises:
            OSError: the bucket does not exist, or the disk is full.
        """
        count = 0
        with self._lock:
            for path in walk(self._folder, self._tree):
                parts = path.relative_to(self._folder).parts
                if path.is_symlink() or any(part.endswith(self._unfinished) for part in parts):
                    continue
                try:
                    count += self._offer(path, settled=settled)
                except (FileNotFoundError, PermissionError):
                    # Deleted in the meantime, or only readable after the container has ended.
                    if settled and path.exists():
                        raise
        return count

    def _offer(self, path: Path, *, settled: bool) -> bool:
        """Upload a file if it is new or changed and complete; return whether it was uploaded."""
        stamp = _stamp(path)
        before, self._seen[path] = self._seen.get(path), stamp
        if stamp == self._kept.get(path) or not (settled or stamp == before):
            return False
        target = self._place / str(path.relative_to(self._folder))
        if not self._objects.bucket_exists(target.bucket):
            raise OSError(f"no such bucket: {target.bucket} ({target})")
        self._objects.put(target.bucket, target.key, path)
        if _stamp(path) == stamp:
            self._kept[path] = stamp
        return True

    def _copy(self, key: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        try:
            self._objects.copy(self._place.bucket, key, path)
        except KeyError as error:
            raise OSError(str(error.args[0])) from None
        path.chmod(0o666)
        self._kept[path] = _stamp(path)


class Mirrors:
    """The mirrors of a job, which are synced periodically.

    A failure is logged once and retried; `finish` raises it.
    """

    def __init__(self, mirrors: list[Mirror]) -> None:
        self._mirrors = mirrors
        self._failed: str | None = None

    def add(self, mirrors: list[Mirror]) -> None:
        """Add mirrors for the next sync."""
        self._mirrors = [*self._mirrors, *mirrors]

    def tick(self) -> None:
        """Sync all; an error is only logged."""
        try:
            for mirror in self._mirrors:
                mirror.sync()
        except OSError as error:
            if str(error) != self._failed:
                _log.warning("sync to S3 failed, will retry: %s", error)
            self._failed = str(error)

    def finish(self) -> None:
        """Sync all for the last time.

        Raises:
            OSError: the bucket does not exist, or the disk is full.
        """
        for mirror in self._mirrors:
            mirror.sync(settled=True)


def _stamp(path: Path) -> Stamp:
    status = path.lstat()
    return status.st_mtime_ns, status.st_size

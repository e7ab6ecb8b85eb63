"""Folders of a container that are kept in S3 while it runs: checkpoints and other live output."""

import logging
import threading
from pathlib import Path, PurePosixPath

from local.emulator.location import Location
from local.emulator.ports import Objects
from local.emulator.training.archive import walk

Stamp = tuple[int, int]
"""A file's modification time in ns and its size in bytes: a file whose stamp stays is unchanged."""

_log = logging.getLogger(__name__)


class Mirror:
    """Keeps a folder's files in S3.

    A file is put there once it has looked the same in two scans, so one that is being written is
    waited for. What is deleted in the folder stays in S3, as on SageMaker, where nothing is ever
    lost by a container that cleans up. Links are left out: S3 has none.

    Args:
        objects: the S3.
        folder: the folder on this machine; it need not be there.
        place: the prefix it is kept under.
        tree: what a container writes to, with the folder in it: no link below leads out of it.
        unfinished: ends of names of files and folders that are not kept: what is in the making.
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
        """Copy what S3 holds into the folder; returns the number of files.

        Raises:
            OSError: the disk is full, or a key cannot be a file's name.
        """
        prefix = f"{self._place.key.rstrip('/')}/".lstrip("/")
        count = 0
        for stored in self._objects.keys(self._place.bucket, prefix):
            name = PurePosixPath(stored.key[len(prefix) :])
            if stored.key.endswith("/"):
                continue
            if name.is_absolute() or ".." in name.parts or not name.parts:
                raise OSError(f"the checkpoint {stored.key!r} cannot be a file: it leads elsewhere")
            self._copy(stored.key, self._folder / name)
            count += 1
        return count

    def sync(self, *, settled: bool = False) -> int:
        """Put new and changed files to S3; returns how many.

        `settled`: the containers have ended, so a file need not look the same twice.

        Raises:
            OSError: the bucket is not there, or the disk is full.
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
                    # Deleted meanwhile, or not readable before the container ended.
                    if settled and path.exists():
                        raise
        return count

    def _offer(self, path: Path, *, settled: bool) -> bool:
        """Put one file to S3 if it is time; whether it was."""
        stamp = _stamp(path)
        before, self._seen[path] = self._seen.get(path), stamp
        if stamp == self._kept.get(path) or not (settled or stamp == before):
            return False
        target = self._place / str(path.relative_to(self._folder))
        if not self._objects.bucket_exists(target.bucket):
            raise OSError(f"there is no bucket {target.bucket} ({target})")
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
    """The mirrors of one host, synced by the clock.

    A failure is logged once and tried again; the last `sync(settled=True)` raises it.
    """

    def __init__(self, mirrors: list[Mirror]) -> None:
        self._mirrors = mirrors
        self._failed: str | None = None

    def add(self, mirrors: list[Mirror]) -> None:
        """Keep these folders too, from the next time on."""
        self._mirrors = [*self._mirrors, *mirrors]

    def tick(self) -> None:
        """Sync all; never fails."""
        try:
            for mirror in self._mirrors:
                mirror.sync()
        except OSError as error:
            if str(error) != self._failed:
                _log.warning("not in S3 yet: %s", error)
            self._failed = str(error)

    def finish(self) -> None:
        """Sync all for the last time.

        Raises:
            OSError: the bucket is not there, or the disk is full.
        """
        for mirror in self._mirrors:
            mirror.sync(settled=True)


def _stamp(path: Path) -> Stamp:
    status = path.lstat()
    return status.st_mtime_ns, status.st_size

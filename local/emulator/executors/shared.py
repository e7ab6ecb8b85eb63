"""Local folders that several containers share."""

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

ANYONE_READS = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH
ANYONE_ENTERS = stat.S_IXGRP | stat.S_IXOTH


class SharedFolders:
    """Counts the containers that use a shared folder, and hands it back after the last one.

    While a container is running, its files keep their owner, who may be the only one with write
    permission.
    """

    def __init__(self) -> None:
        self._users: dict[Path, set[object]] = {}
        self._lock = threading.Lock()

    def acquire(self, user: object, folders: Iterable[Path]) -> None:
        """Register a container that is about to use the folders; creates missing folders.

        Args:
            user: represents the container, which may not have an id yet.
            folders: the folders; may be empty.

        Raises:
            OSError: the disk is full, or the path is not a folder.
        """
        with self._lock:
            for folder in folders:
                make(folder)
                self._users.setdefault(folder, set()).add(user)

    def release(self, user: object, hand_back: Callable[[Path], None]) -> None:
        """Unregister a container that was removed or did not start.

        Args:
            user: as in `acquire`; it may be unknown.
            hand_back: makes the home's owner own everything in a folder.
        """
        with self._lock:
            for folder, users in self._users.items():
                if user in users:
                    users.remove(user)
                    if not users:
                        hand_back(folder)
                        open_to_all(folder)


def make(folder: Path) -> None:
    """Create a folder that every user can write to.

    Raises:
        OSError: the disk is full, or the path is not a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) != 0o777:
        folder.chmod(0o777)


def open_to_all(folder: Path) -> None:
    """Make a folder readable and writable for all users, as the next image may run as another user.

    Files of other users are not changed.
    """
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            try:
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    wanted = mode | ANYONE_READS | ANYONE_ENTERS
                elif stat.S_ISREG(mode):
                    wanted = mode | ANYONE_READS
                else:
                    continue
                if wanted != mode:
                    path.chmod(stat.S_IMODE(wanted), follow_symlinks=False)
            except (OSError, NotImplementedError):
                continue


def make_mount_point(base: Path, part: str) -> None:
    """Create the empty folder `base/part`, where a container mounts a shared folder.

    Raises:
        OSError: the disk is full.
    """
    _clear_the_way(base, part)
    (base / part).mkdir(parents=True, exist_ok=True)


def link(base: Path, part: str, folder: Path) -> None:
    """Make `base/part` a link to a shared folder, for a process, which has no mounts.

    Raises:
        OSError: the disk is full.
    """
    path = base / part
    if path.is_symlink() and not path.parent.is_symlink() and path.readlink() == folder:
        return
    _clear_the_way(base, part)
    if path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(folder)


def _clear_the_way(base: Path, part: str) -> None:
    """Remove links and files along the path `base/part`: a container's link may point anywhere."""
    path = base
    for name in PurePosixPath(part).parts:
        path /= name
        if path.is_symlink() or path.is_file():
            path.unlink()

"""Folders of this machine that several containers see: one container's `/opt/ml` is its own."""

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

ANYONE_READS = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH
ANYONE_ENTERS = stat.S_IXGRP | stat.S_IXOTH


class SharedFolders:
    """Knows which containers use a shared folder, and hands it back when none does.

    While one runs, its files keep their owner, who may be the only one that may write to them.
    """

    def __init__(self) -> None:
        self._users: dict[Path, set[object]] = {}
        self._lock = threading.Lock()

    def acquire(self, user: object, folders: Iterable[Path]) -> None:
        """Make the folders if they are missing: a container is about to use them.

        Args:
            user: stands for the container, which may not have an id yet.
            folders: may be none.

        Raises:
            OSError: the disk is full, or something else has the place.
        """
        with self._lock:
            for folder in folders:
                make(folder)
                self._users.setdefault(folder, set()).add(user)

    def release(self, user: object, hand_back: Callable[[Path], None]) -> None:
        """The container was removed, or did not start.

        Args:
            user: as in `acquire`; one that uses no folder is no error.
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
    """Make a folder that every user of this machine who gets there may write to.

    Raises:
        OSError: the disk is full, or something else has the place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) != 0o777:
        folder.chmod(0o777)


def open_to_all(folder: Path) -> None:
    """Let containers of any user read and write what is in the folder: the next has another image.

    What is another user's stays as it is.
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
    """Make the empty folder `base/part`, over which a container mounts a shared one.

    Raises:
        OSError: the disk is full.
    """
    _clear_the_way(base, part)
    (base / part).mkdir(parents=True, exist_ok=True)


def link(base: Path, part: str, folder: Path) -> None:
    """Make `base/part` a link to a shared folder, for a process, which mounts nothing.

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
    """Remove links and files on the way to `base/part`: a container's may lead anywhere."""
    path = base
    for name in PurePosixPath(part).parts:
        path /= name
        if path.is_symlink() or path.is_file():
            path.unlink()

"""Unpacks image folders from untrusted zip and tar archives."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from container.errors import DataError
from container.files.archives import ArchiveLimits, BadArchive, Member, members
from container.files.folders import (
    SPLITS,
    found_both,
    is_image_name,
    is_junk,
    is_utf8,
    left_out,
    readable,
    split_of,
)
from container.files.progress import ProgressBar

Placement = Callable[[PurePosixPath], PurePosixPath | None]
"""Maps a member's path in the archive to its path in the destination; None to skip it."""


def place_in_splits(path: PurePosixPath) -> PurePosixPath | None:
    """Place an image .../<split>/<class>/<image> at <split>/<class>/<image>; skip everything else.

    The split may have any of its usual names.
    """
    if len(path.parts) < 3 or not is_image_name(path.name) or any(map(is_junk, path.parts)):
        return None
    split = split_of(path.parts[-3])
    return None if split is None else PurePosixPath(split, *path.parts[-2:])


def place_images(path: PurePosixPath) -> PurePosixPath | None:
    """Place every image at its path in the archive; skip everything else."""
    skipped = not is_image_name(path.name) or any(map(is_junk, path.parts))
    return None if skipped else path


def unpack(archive: Path, folder: Path, placement: Placement, limits: ArchiveLimits) -> int:
    """Write the files of a zip or tar archive to their placement below `folder`.

    Prints the skipped files, one line per reason.

    Returns:
        Number of files written.

    Raises:
        DataError: the archive is damaged or exceeds `limits`, or holds a link, an encrypted
            member, a path that is absolute or leads out of it, a class whose name is not UTF-8,
            or a split by two names.
    """
    target = _Target(archive, folder, placement)
    try:
        with ProgressBar(f"unpacking {archive.name}", 0) as progress:
            for member in members(archive, limits):
                target.add(member)
                progress.advance()
    except FileNotFoundError as error:
        raise DataError(f"{archive}: not found, expected an archive") from error
    except BadArchive as error:
        raise DataError(f"{archive}: {error}") from None
    target.print_left_out()
    return target.written


class _Target:
    """The folder being filled."""

    def __init__(self, archive: Path, folder: Path, placement: Placement) -> None:
        self._archive, self._folder, self._placement = archive, folder, placement
        self.written = 0
        self._names: dict[str, str] = {}
        self._left_out: dict[str, dict[str, None]] = {}

    def add(self, member: Member) -> None:
        """Write a member that has a placement. Raises DataError for one that is not safe."""
        destination = None if member.is_folder else self._destination(member.path)
        if destination is None:
            return
        try:
            member.copy_to(destination)
        except FileExistsError as error:
            raise DataError(
                f"{self._archive}: {readable(str(member.path))}: found the same file twice"
            ) from error
        self.written += 1

    def print_left_out(self) -> None:
        for why, names in self._left_out.items():
            print(f"{readable(str(self._archive))}: {left_out(why, names)}")

    def _destination(self, path: PurePosixPath) -> Path | None:
        junk = next((part for part in path.parts if is_junk(part)), None)
        placed = self._placement(path)
        if placed is None:
            self._leave_out("left by a tool" if junk else "not in its place", junk or str(path))
            return None
        if not is_utf8(str(placed.parent)):
            raise DataError(
                f"{self._archive}: {readable(str(path))}: found a folder whose name is not UTF-8, "
                "expected UTF-8: rename it and pack again"
            )
        if not is_utf8(placed.name):
            self._leave_out("their names are not UTF-8", str(path))
            return None
        if len(path.parts) > 2 and placed.parts[0] in SPLITS:
            name = self._names.setdefault(placed.parts[0], path.parts[-3])
            if name != path.parts[-3] and split_of(path.parts[-3]) == placed.parts[0]:
                raise found_both(str(self._archive), placed.parts[0], [name, path.parts[-3]])
        return self._folder / placed

    def _leave_out(self, why: str, name: str) -> None:
        self._left_out.setdefault(why, {})[name] = None

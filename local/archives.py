"""Gzip-compressed tar archives, unpacked: models, and what a training job leaves."""

from pathlib import Path

from container.files.archives import ArchiveLimits, BadArchive, is_gzip, members

MAX_FILES = 100_000
"""Entries an archive may hold; more is an attack or a mistake."""


def unpack(archive: Path, folder: Path, *, limit: int, read_only: bool = False) -> None:
    """Unpack plain files and folders, and check the gzip stream to its end.

    Args:
        archive: the file.
        folder: an empty folder.
        limit: bytes the files may take together.
        read_only: make the files read-only; those that their owner may execute stay executable.

    Raises:
        BadArchive: it is damaged, too large, or holds links, devices or paths that lead out.
        OSError: the disk is full.
    """
    if not is_gzip(archive):
        raise BadArchive("not a gzip-compressed tar archive")
    for member in members(archive, ArchiveLimits(MAX_FILES, limit, limit).within(folder)):
        path = folder / member.path
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.unlink(missing_ok=True)  # an archive may hold a name twice: the last one counts
        member.copy_to(path)
        if read_only:
            path.chmod(0o555 if member.executable else 0o444)

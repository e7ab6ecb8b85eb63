"""Unpacking of the `.tar.gz` archives of training jobs: models and output data."""

from pathlib import Path

from container.files.archives import ArchiveLimits, BadArchive, is_gzip, members

MAX_FILES = 100_000
"""Entries an archive may hold; more is an attack or a mistake."""


def unpack(archive: Path, folder: Path, *, limit: int, read_only: bool = False) -> None:
    """Unpack regular files and folders, and verify the gzip stream to its end.

    Args:
        archive: the file to unpack.
        folder: an empty folder.
        limit: the total size of the unpacked files, in bytes, that is allowed.
        read_only: make the files read-only; executable files stay executable.

    Raises:
        BadArchive: it is damaged or too large, or it contains links, devices or paths outside
            `folder`.
        OSError: the disk is full.
    """
    if not is_gzip(archive):
        raise BadArchive("not a gzip-compressed tar archive")
    for member in members(archive, ArchiveLimits(MAX_FILES, limit, limit).within(folder)):
        path = folder / member.path
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.unlink(missing_ok=True)  # a tar archive may contain a name twice: the last one wins
        member.copy_to(path)
        if read_only:
            path.chmod(0o555 if member.executable else 0o444)

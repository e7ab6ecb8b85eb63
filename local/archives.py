"""Gzip-compressed tar archives that are not trusted: models, and what a training job leaves."""

import gzip
import itertools
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

MAX_FILES = 100_000
"""Entries an archive may hold; more is an attack or a mistake."""
_CHUNK = 1 << 20
_PADDING = 64
"""Chunks of padding that may follow an archive's end."""


class BadArchive(Exception):
    """An archive is corrupt, too large or unsafe; one line that says why, without its name."""


def unpack(archive: Path, folder: Path, *, limit: int, read_only: bool = False) -> None:
    """Unpack plain files and folders, and check the gzip stream to its end.

    `tarfile.data_filter` would do most of this, but the first releases of Python 3.11 have none.

    Args:
        archive: the file.
        folder: an empty folder.
        limit: bytes the files may take together.
        read_only: make the files read-only; those that their owner may execute stay executable.

    Raises:
        BadArchive: it is corrupt, too large, or holds links, devices or paths that lead out.
        OSError: the disk is full.
    """
    left = min(limit, shutil.disk_usage(folder).free)
    try:
        with gzip.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as bundle:
            for count, member in enumerate(bundle, 1):
                if count > MAX_FILES:
                    raise BadArchive(f"more than {MAX_FILES:,} entries")
                _check(member)
                if member.size > left:
                    raise BadArchive(
                        f"{member.name!r} does not fit; the archive unpacks to more than "
                        f"{limit:,} bytes, or more than this disk holds"
                    )
                left -= member.size
                _extract(bundle, member, folder, read_only=read_only)
            for count in itertools.count():  # gzip's checksum comes last
                if not plain.read(_CHUNK):
                    break
                if count > _PADDING:
                    raise BadArchive("it goes on after the archive's end")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadArchive(f"not a whole gzip-compressed tar archive: {error}") from None


def leads_out(name: str) -> bool:
    """Whether a relative path would lie outside the folder it is put below."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\0" in name


def _check(member: tarfile.TarInfo) -> None:
    if leads_out(member.name):
        raise BadArchive(f"the path {member.name!r} leads out of the folder")
    if member.issym() or member.islnk():
        raise BadArchive(
            f"{member.name!r} is a link; archives may hold no symbolic or hard links (add files "
            "with tar --dereference --hard-dereference)"
        )
    if not (member.isreg() or member.isdir()):
        raise BadArchive(f"{member.name!r} is neither a file nor a folder")


def _extract(
    bundle: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, *, read_only: bool
) -> None:
    path = folder / member.name
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # an archive may hold a name twice: the last one counts
    content = bundle.extractfile(member)
    assert content is not None  # noqa: S101 - regular files have one
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
    if read_only:
        path.chmod(0o555 if member.mode & 0o100 else 0o444)

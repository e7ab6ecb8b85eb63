"""The archives of a job's results: `model.tar.gz` and `output.tar.gz`."""

import gzip
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from local.emulator.ports import Objects
from local.s3_location import Location

MODEL_LEVEL = 0
"""The gzip level of models: 46 MB of weights take 0.1 s of CPU time. Level 1 would take 1.4 s, for
every trial, and save 7 %."""
OUTPUT_LEVEL = 6
"""The gzip level of other output, which is mostly text and tables."""


def walk(folder: Path, tree: Path | None = None) -> Iterator[Path]:
    """Every regular file and symbolic link below a folder, by path; links are not followed.

    A container's files are not trusted: there are none if the folder does not exist, or if it or a
    parent of it below `tree` is a link.
    """
    above = (parent for parent in folder.parents if tree is not None and tree in parent.parents)
    if folder.is_symlink() or any(parent.is_symlink() for parent in above):
        return
    for parent, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield path


def model_files(trees: Iterable[Path]) -> dict[PurePosixPath, Path]:
    """The files of a job's model, from all hosts; the first host takes precedence.

    Args:
        trees: the `/opt/ml` of each host, in order.
    """
    files: dict[PurePosixPath, Path] = {}
    for tree in trees:
        for path in walk(tree / "model"):
            files.setdefault(PurePosixPath(path.relative_to(tree / "model")), path)
    return files


def output_files(trees: Iterable[tuple[str, Path]]) -> dict[PurePosixPath, Path]:
    """A job's other output files, `data/…` and `failure`, from all hosts.

    If several hosts have a file with the same path, it is in `<host>/` for all but the first.

    Args:
        trees: the name and `/opt/ml` of each host, in order.
    """
    files: dict[PurePosixPath, Path] = {}
    for host, tree in trees:
        output = tree / "output"
        if output.is_symlink():
            continue
        found = list(walk(output / "data"))
        failure = output / "failure"
        if failure.is_file() and not failure.is_symlink() and failure.stat().st_size:
            found.append(failure)
        for path in found:
            name = PurePosixPath(path.relative_to(output))
            files[PurePosixPath(host) / name if name in files else name] = path
    return files


def report_files(tree: Path) -> dict[PurePosixPath, Path]:
    """The files of the profiler's report, if the first host's container wrote one.

    Args:
        tree: the first host's `/opt/ml`.
    """
    folder = tree / "output" / "data" / "report"
    return {PurePosixPath(path.relative_to(folder)): path for path in walk(folder, tree)}


def pack(files: dict[PurePosixPath, Path], archive: Path, level: int) -> None:
    """Write a reproducible `.tar.gz`, which only depends on names, contents and modes.

    Raises:
        OSError: the disk is full, or a file cannot be read.
    """
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=level, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name in sorted(files):
            tar.add(files[name], arcname=str(name), recursive=False, filter=_anonymous)


def upload(
    objects: Objects,
    files: dict[PurePosixPath, Path],
    place: Location,
    scratch: Path,
    level: int = OUTPUT_LEVEL,
) -> None:
    """Upload files as one archive, created in the folder `scratch`; do nothing without files.

    Raises:
        OSError: the disk is full, or the bucket does not exist.
    """
    if not files:
        return
    archive = scratch / place.key.rpartition("/")[2]
    try:
        pack(files, archive, level)
        objects.put(place.bucket, place.key, archive)
    finally:
        archive.unlink(missing_ok=True)


def upload_plain(objects: Objects, files: dict[PurePosixPath, Path], place: Location) -> None:
    """Upload files uncompressed below a prefix; links are skipped.

    Raises:
        OSError: the bucket does not exist, or a file cannot be read.
    """
    for name, path in files.items():
        if not path.is_symlink():
            target = place / str(name)
            objects.put(target.bucket, target.key, path)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry

"""What a job leaves, as SageMaker hands it over: `model.tar.gz` and `output.tar.gz`."""

import gzip
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from local.emulator.location import Location
from local.emulator.ports import Objects

MODEL_LEVEL = 0
"""Of gzip, for models: 46 MB of weights take 0.1 s of a core; level 1 takes 1.4 s of it, of every
trial, and saves 7 %."""
OUTPUT_LEVEL = 6
"""Of gzip, for what else a job leaves: text and tables, mostly."""


def walk(folder: Path, tree: Path | None = None) -> Iterator[Path]:
    """Every regular file and symbolic link below a folder, by path; links are not followed.

    Nothing if the folder is not there, is a link itself or is reached through one below `tree`:
    what a container made is not trusted.
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
    """The model of a job: the files of all its hosts' model folders, the first host's first.

    Args:
        trees: each host's `/opt/ml`, in the hosts' order.
    """
    files: dict[PurePosixPath, Path] = {}
    for tree in trees:
        for path in walk(tree / "model"):
            files.setdefault(PurePosixPath(path.relative_to(tree / "model")), path)
    return files


def output_files(trees: Iterable[tuple[str, Path]]) -> dict[PurePosixPath, Path]:
    """What else a job leaves: `data/…` and `failure`; nothing if there is neither.

    A further host's file lies where the first one's would; under `<host>/` if that has one there.

    Args:
        trees: each host's name and `/opt/ml`, in the hosts' order.
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
    """The profiler's report, if the first host's container made one.

    Args:
        tree: that host's `/opt/ml`.
    """
    folder = tree / "output" / "data" / "report"
    return {PurePosixPath(path.relative_to(folder)): path for path in walk(folder, tree)}


def pack(files: dict[PurePosixPath, Path], archive: Path, level: int) -> None:
    """Write a gzip-compressed tar that depends on names, contents and modes alone.

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
    """Put files to S3 as one archive, made in the folder `scratch`; nothing for no files.

    Raises:
        OSError: the disk is full, or the bucket is not there.
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
    """Put files to S3 as they are, below a prefix; links, which S3 does not know, are left out.

    Raises:
        OSError: the bucket is not there, or a file cannot be read.
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

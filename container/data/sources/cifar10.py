"""CIFAR-10: 60,000 pictures of 32 x 32 pixels in ten classes (Krizhevsky 2009)."""

import argparse
import hashlib
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from container.data.progress import Progress
from container.data.sources.archive import Limits, place_in_splits, unpack_tar
from container.data.sources.base import Source
from container.errors import DataError

LIMITS = Limits(files=100_000, file_bytes=1 << 20, total_bytes=1 << 30)
_OFFICIAL_FOLDER = "cifar-10-batches-py"


class Pictures(Protocol):
    """What is used of torchvision's data set: pixels uint8 (N, 32, 32, 3) and labels."""

    data: npt.NDArray[np.uint8]
    targets: list[int]
    classes: Sequence[str]


class Cifar10(Source):
    """train/ and test/, from an archive already here or by torchvision's own download.

    The archive is the official cifar-10-python.tar.gz, or a tar of {train,test}/<class>/<image>.
    """

    def __init__(self, archive: Path | None = None) -> None:
        self._archive = archive

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--archive."""
        parser.add_argument(
            "--archive", type=Path, help="cifar-10-python.tar.gz, or a tar of class folders"
        )

    def fill(self, folder: Path) -> None:
        """Unpack the folders, or write torchvision's arrays as PNG files."""
        if self._archive is not None and not _is_official(self._archive):
            if not unpack_tar(self._archive, folder, place_in_splits, LIMITS):
                raise DataError(f"{self._archive}: no pictures, expected {{train,test}}/<class>/")
            return
        from torchvision.datasets import CIFAR10

        raw = folder / "raw"
        raw.mkdir()
        if self._archive is not None:
            _check(self._archive, CIFAR10.tgz_md5)
            shutil.copyfile(self._archive, raw / CIFAR10.filename)
        for split, train in (("train", True), ("test", False)):
            try:
                pictures = CIFAR10(str(raw), train=train, download=True)
            except RuntimeError as error:
                raise DataError(f"CIFAR-10: the download is not sound: {error}") from error
            write_pictures(pictures, folder / split)
        shutil.rmtree(raw)


def write_pictures(pictures: Pictures, folder: Path) -> None:
    """Write each picture as `folder`/<class>/<number>.png."""
    for name in pictures.classes:
        (folder / name).mkdir(parents=True)
    with Progress(f"writing {folder.name} pictures", len(pictures.targets)) as progress:
        for number, (pixels, label) in enumerate(zip(pictures.data, pictures.targets, strict=True)):
            path = folder / pictures.classes[label] / f"{number:05d}.png"
            Image.fromarray(pixels).save(path)
            progress.advance()


def _is_official(archive: Path) -> bool:
    try:
        with tarfile.open(archive, "r|*") as bundle:
            first = bundle.next()
    except FileNotFoundError as error:
        raise DataError(f"{archive}: not found, expected an archive") from error
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: not a tar archive: {error}") from error
    return first is not None and first.name.split("/")[0] == _OFFICIAL_FOLDER


def _check(archive: Path, expected: str) -> None:
    """It holds pickles, so it is read only when it is byte for byte the official archive."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != expected:
        raise DataError(
            f"{archive}: found MD5 {digest.hexdigest()}, expected {expected}, the official archive"
        )

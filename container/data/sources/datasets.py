"""Public data sets: scikit-learn's digits, CIFAR-10 (Krizhevsky 2009) and Udacity's dog breeds."""

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

from container.data.sources.archive import place_in_splits, unpack
from container.data.sources.base import DatasetSource
from container.data.sources.download import download
from container.data.splits import stratified
from container.errors import DataError
from container.files.archives import ArchiveLimits
from container.files.progress import ProgressBar

DIGIT_SIDE = 32
_DIGITS_HELD_OUT = 0.15
_DIGITS_BRIGHTEST = 16


class Digits(DatasetSource):
    """Digits as 32 x 32 PNG files: about 70 % train, 15 % validation and 15 % test."""

    summary = (
        "scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, bundled with the library."
    )

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--seed."""
        parser.add_argument("--seed", type=int, default=0, help="chooses the splits (0)")

    def fill(self, folder: Path) -> None:
        """Write train, validation and test."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        labels = digits.target.astype(np.int64)
        rest, test = stratified(labels, _DIGITS_HELD_OUT, self._seed)
        # The share of the rest that makes validation as large as test.
        share = _DIGITS_HELD_OUT / (1 - _DIGITS_HELD_OUT)
        train, validation = (rest[part] for part in stratified(labels[rest], share, self._seed))
        for split, positions in (("train", train), ("validation", validation), ("test", test)):
            for position in positions:
                path = folder / split / str(labels[position]) / f"{position:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                _digit_image(digits.images[position]).save(path)


def _digit_image(strokes: npt.NDArray[np.float64]) -> Image.Image:
    """(8, 8) with values 0..16 to a grey image of 32 x 32."""
    grey = np.round(strokes * (255 / _DIGITS_BRIGHTEST)).astype(np.uint8)
    return Image.fromarray(grey).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)


CIFAR10_LIMITS = ArchiveLimits(files=100_000, file_bytes=1 << 20, total_bytes=1 << 30)
_CIFAR10_FOLDER = "cifar-10-batches-py"


class LabelledImages(Protocol):
    """What is used of torchvision's CIFAR10: pixels uint8 (N, 32, 32, 3) and labels."""

    data: npt.NDArray[np.uint8]
    targets: list[int]
    classes: Sequence[str]


class Cifar10(DatasetSource):
    """CIFAR-10 from an archive, or downloaded by torchvision.

    The archive is the official cifar-10-python.tar.gz, or a tar of {train,test}/<class>/<image>.
    """

    summary = "CIFAR-10: 60,000 images of 32 x 32 pixels in ten classes (Krizhevsky 2009)."

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
        if self._archive is not None and not _is_official_cifar10(self._archive):
            if not unpack(self._archive, folder, place_in_splits, CIFAR10_LIMITS):
                raise DataError(f"{self._archive}: no pictures, expected {{train,test}}/<class>/")
            return
        from torchvision.datasets import CIFAR10

        raw = folder / "raw"
        raw.mkdir()
        if self._archive is not None:
            _check_md5(self._archive, CIFAR10.tgz_md5)
            shutil.copyfile(self._archive, raw / CIFAR10.filename)
        for split, train in (("train", True), ("test", False)):
            try:
                images = CIFAR10(str(raw), train=train, download=True)
            except RuntimeError as error:
                raise DataError(f"CIFAR-10: the download is corrupt: {error}") from error
            write_images(images, folder / split)
        shutil.rmtree(raw)


def write_images(images: LabelledImages, folder: Path) -> None:
    """Write each image as `folder`/<class>/<number>.png."""
    for name in images.classes:
        (folder / name).mkdir(parents=True)
    with ProgressBar(f"writing {folder.name} pictures", len(images.targets)) as progress:
        for number, (pixels, label) in enumerate(zip(images.data, images.targets, strict=True)):
            path = folder / images.classes[label] / f"{number:05d}.png"
            Image.fromarray(pixels).save(path)
            progress.advance()


def _is_official_cifar10(archive: Path) -> bool:
    try:
        with tarfile.open(archive, "r|*") as bundle:
            first = bundle.next()
    except FileNotFoundError as error:
        raise DataError(f"{archive}: not found, expected an archive") from error
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: not a tar archive: {error}") from error
    return first is not None and first.name.split("/")[0] == _CIFAR10_FOLDER


def _check_md5(archive: Path, expected: str) -> None:
    """Raise DataError unless it is the official archive, because it contains pickles."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != expected:
        raise DataError(
            f"{archive}: found MD5 {digest.hexdigest()}, expected {expected}, the official archive"
        )


DOGS_URL = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
DOGS_MAX_DOWNLOAD = 2 << 30
DOGS_LIMITS = ArchiveLimits(files=50_000, file_bytes=64 << 20, total_bytes=4 << 30)


class Dogs(DatasetSource):
    """dogImages/{train,valid,test}/<nnn.Breed>/ from an archive, or downloaded."""

    summary = (
        "The dog breeds of Udacity's course: 8,351 photographs of 133 breeds, a 1.1 GB zip archive."
    )

    def __init__(self, archive: Path | None = None, url: str = DOGS_URL) -> None:
        self._archive, self._url = archive, url

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--archive and --url."""
        parser.add_argument("--archive", type=Path, help="dogImages.zip, if you have it already")
        parser.add_argument(
            "--url", default=DOGS_URL, help=f"where to download it from ({DOGS_URL})"
        )

    def write(self, dest: Path) -> None:
        """Write `dest`; a download is kept beside it until it is unpacked."""
        if self._archive is not None:
            super().write(dest)
            return
        self._archive = dest.with_name(dest.name + ".zip")
        try:
            super().write(dest)
            self._archive.unlink()
        finally:
            self._archive = None

    def fill(self, folder: Path) -> None:
        """Download if needed, and unpack the photographs into their splits."""
        assert self._archive is not None, "set by write()"  # noqa: S101
        download(self._url, self._archive, max_bytes=DOGS_MAX_DOWNLOAD)
        if not unpack(self._archive, folder, place_in_splits, DOGS_LIMITS):
            raise DataError(f"{self._archive}: no photographs, expected {{train,...}}/<breed>/")

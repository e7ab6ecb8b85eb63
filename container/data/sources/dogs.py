"""The dog breeds of Udacity's course: 8,351 photographs of 133 breeds, a 1.1 GB zip archive."""

import argparse
from pathlib import Path

from container.data.sources.archive import Limits, place_in_splits, unpack_zip
from container.data.sources.base import Source
from container.data.sources.download import download
from container.errors import DataError

URL = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"
MAX_DOWNLOAD = 2 << 30
LIMITS = Limits(files=50_000, file_bytes=64 << 20, total_bytes=4 << 30)


class Dogs(Source):
    """dogImages/{train,valid,test}/<nnn.Breed>/, downloaded, or from an archive already here."""

    def __init__(self, archive: Path | None = None, url: str = URL) -> None:
        self._archive, self._url = archive, url

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--archive and --url."""
        parser.add_argument("--archive", type=Path, help="dogImages.zip, if you have it already")
        parser.add_argument("--url", default=URL, help=f"where to download it from ({URL})")

    def write(self, dest: Path) -> None:
        """As every source; a download is kept beside `dest` until it has been unpacked."""
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
        assert self._archive is not None, "write() has chosen it"  # noqa: S101
        download(self._url, self._archive, max_bytes=MAX_DOWNLOAD)
        if not unpack_zip(self._archive, folder, place_in_splits, LIMITS):
            raise DataError(f"{self._archive}: no photographs, expected {{train,...}}/<breed>/")

"""The interface of data sets: each writes a destination folder that is complete or absent."""

import argparse
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from container.errors import DataError


class DatasetSource(ABC):
    """One data set. A subclass declares its options and fills an empty folder.

    Digits(seed=1).write(Path("digits"))

    Attributes:
        summary: one line for the command's help.
    """

    summary: ClassVar[str]

    @staticmethod
    @abstractmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Declare the command-line options, named as the constructor's parameters."""

    @classmethod
    def from_options(cls, options: dict[str, object]) -> Self:
        """Build from parsed options."""
        return cls(**options)

    @abstractmethod
    def fill(self, folder: Path) -> None:
        """Write <split>/<class>/<image> below the empty `folder`."""

    @property
    def problems(self) -> Sequence[str]:
        """A line for each requested item that was not written."""
        return ()

    def write(self, dest: Path) -> None:
        """Write to a temporary folder and rename it to `dest` once it is complete.

        Raises DataError if `dest` exists and is not empty, or the data are invalid.
        """
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise DataError(f"{dest}: already there, expected a new or empty folder")
        dest.parent.mkdir(parents=True, exist_ok=True)
        unfinished = dest.with_name(dest.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            self.fill(unfinished)
            unfinished.replace(dest)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

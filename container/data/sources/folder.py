"""A folder of your own: class folders, or split folders that hold them, copied and split."""

import argparse
import shutil
from pathlib import Path

from container.data.index import Index
from container.data.progress import Progress
from container.data.sources.base import Source
from container.data.splits import split_folders, stratified
from container.errors import DataError


class Folder(Source):
    """Copies images into train, validation and test; splits already there stay as they are.

    Where there is no test split and `test_split` is above 0, that share of each class is taken
    from train; then `validation_split` of the rest where there is no validation split.
    """

    def __init__(
        self,
        source: Path,
        validation_split: float = 0.2,
        test_split: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._source, self._seed = source, seed
        self._validation_split, self._test_split = validation_split, test_split

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--from, --validation-split, --test-split, --seed."""
        parser.add_argument(
            "--from", dest="source", type=Path, required=True, help="the folder to read"
        )
        parser.add_argument(
            "--validation-split", type=float, default=0.2, help="share of each class (0.2)"
        )
        parser.add_argument(
            "--test-split", type=float, default=0.0, help="share of each class (0: no test split)"
        )
        parser.add_argument("--seed", type=int, default=0, help="chooses the splits (0)")

    def fill(self, folder: Path) -> None:
        """Copy every file; the source is only read."""
        if folder.resolve().is_relative_to(self._source.resolve()):
            raise DataError(f"{self._source}: holds the destination, expected it elsewhere")
        folders = split_folders({"folder": self._source})
        train = Index.from_folder(folders["train"])
        splits = {split: Index.from_folder(path, train.classes) for split, path in folders.items()}
        for split, share in (("test", self._test_split), ("validation", self._validation_split)):
            if split not in splits and share > 0:
                kept, taken = stratified(splits["train"].labels, share, self._seed)
                splits[split] = splits["train"].take(taken)
                splits["train"] = splits["train"].take(kept)
        with Progress("copying images", sum(map(len, splits.values()))) as progress:
            for split, index in splits.items():
                for position, path in enumerate(index.paths):
                    target = folder / split / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(index.file(position), target)
                    progress.advance()

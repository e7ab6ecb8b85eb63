"""Copies a folder or archive of class folders or split folders, and splits it."""

import argparse
import errno
import shutil
from pathlib import Path

from container.data.index import Index
from container.data.members import SEPARATOR
from container.data.sources.archive import place_images, unpack
from container.data.sources.base import DatasetSource
from container.data.splits import read_splits, stratified
from container.errors import DataError
from container.files.archives import ArchiveLimits
from container.files.folders import SHARD_SUFFIX, is_junk, is_utf8, left_out, readable
from container.files.progress import ProgressBar
from container.files.regular import LARGEST, copy_regular

LIMITS = ArchiveLimits(files=5_000_000, file_bytes=LARGEST, total_bytes=64 << 30)


class Folder(DatasetSource):
    """Copies images into train, validation and test; existing splits are kept.

    Members of tar shards become files.

    Without a test split and with `test_split` above 0, that share of each class is moved from
    train; then, without a validation split, `validation_split` of the rest.
    """

    summary = (
        "A folder or archive of your own: class folders, or split folders of those, "
        "copied and split."
    )

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
            "--from",
            dest="source",
            type=Path,
            required=True,
            help="the folder to read, or a zip or tar of it",
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
        if not self._source.exists():
            raise DataError(f"{readable(str(self._source))}: not found, expected a folder")
        if self._source.is_dir():
            if folder.resolve().is_relative_to(self._source.resolve()):
                raise DataError(f"{self._source}: holds the destination, expected it elsewhere")
            self._copy(self._source, folder)
            return
        unpacked = folder / ".unpacked"
        if not unpack(self._source, unpacked, place_images, LIMITS):
            raise DataError(f"{self._source}: no image in it, expected <class>/<image>")
        self._copy(unpacked, folder)
        shutil.rmtree(unpacked)

    def _copy(self, source: Path, folder: Path) -> None:
        splits, notes = read_splits({"folder": source})
        for split, share in (("test", self._test_split), ("validation", self._validation_split)):
            if split not in splits and share > 0:
                kept, held_out = stratified(splits["train"].labels, share, self._seed)
                splits[split] = splits["train"].take(held_out)
                splits["train"] = splits["train"].take(kept)
        for line in dict.fromkeys((*notes, *(n for index in splits.values() for n in index.notes))):
            print(line)
        unusable: list[str] = []
        with ProgressBar("copying images", sum(map(len, splits.values()))) as progress:
            for split, index in splits.items():
                unusable += [f"{split}/{path}" for path, _ in index.unusable]
                for position, path in enumerate(index.paths):
                    if not _copy(index, position, folder / split):
                        unusable.append(f"{split}/{path}")
                    progress.advance()
        misplaced = dict.fromkeys(name for index in splits.values() for name in index.misplaced)
        for why, names in (
            ("not <class>/<image>", misplaced),
            (
                "not a regular file, name not UTF-8, too large, or class no folder's name",
                unusable,
            ),
        ):
            if names:
                print(left_out(why, names))


def _copy(index: Index, position: int, folder: Path) -> bool:
    """Copy an image into its class folder; False for a file that cannot be one."""
    path = index.paths[position]
    label = index.classes[index.labels[position]]
    if not is_utf8(path) or "/" in label or is_junk(label):
        return False
    target = folder / path
    if index.members is not None:
        # A shard's member is called after both: those of other shards may have its name.
        shard, _, member = path.partition(SEPARATOR)
        stem = shard.removesuffix(SHARD_SUFFIX)
        target = folder / label / f"{stem}-{member.replace('/', '-')}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if index.members is None:
            copy_regular(index.file(position), target)
        else:
            with target.open("xb") as file:
                file.write(index.members.read(position))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        return False
    return True

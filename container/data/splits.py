"""Training, validation and test images, however the channels name or nest them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from container.data.index import Index, visible_folders
from container.errors import DataError

TRAIN = ("train", "training")
VALIDATION = ("validation", "valid", "val")
TEST = ("test",)


@dataclass(frozen=True)
class Splits:
    """What training sees, what chooses its best epoch, and what only the final report sees."""

    train: Index
    validation: Index
    test: Index | None

    def items(self) -> Iterator[tuple[str, Index]]:
        """Name and index of each split there is."""
        yield "train", self.train
        yield "validation", self.validation
        if self.test is not None:
            yield "test", self.test


def find_splits(channels: Mapping[str, Path], validation_split: float, seed: int) -> Splits:
    """Read the channels into splits.

    `channels` maps a name to its folder: train (or training), validation (valid, val) and test;
    or a single one of any name that holds those as folders; or training images alone, of which
    the share `validation_split` of each class is kept for validation, chosen by `seed`.

    Raises DataError when no training images are found, when there is only one class, and when
    validation or test have a class that training does not.
    """
    folders = split_folders(channels)
    train = Index.from_folder(folders["train"])
    if not len(train):
        raise DataError(f"{train.root}: the class folders are empty, expected images in them")
    if len(train.classes) < 2:
        raise DataError(
            f"{train.root}: found one class only ({train.classes[0]!r}), expected two or more"
        )
    test = Index.from_folder(folders["test"], train.classes) if "test" in folders else None
    if "validation" in folders:
        validation = Index.from_folder(folders["validation"], train.classes)
        if not len(validation):
            raise DataError(f"{validation.root}: no images, expected <class>/<image>")
        return Splits(train, validation, test)
    if validation_split == 0:
        raise DataError(
            "validation_split: found 0 and no validation channel, expected a share of the training "
            "images to keep for validation"
        )
    kept, held_out = stratified(train.labels, validation_split, seed)
    validation = replace(train.take(held_out), misplaced=())
    return Splits(train.take(kept), validation, test)


def split_folders(channels: Mapping[str, Path]) -> dict[str, Path]:
    """The folders of "train" and, where there are any, "validation" and "test"."""
    folders = _named(channels)
    if not folders and len(channels) == 1:
        folders = {"train": next(iter(channels.values()))}
    if "train" not in folders:
        found = ", ".join(sorted(channels)) or "none"
        raise DataError(f"channels: found {found}, expected train (and validation, test)")
    if "validation" not in folders:
        nested = _nested(folders["train"])
        folders = {**folders, **nested}
    return folders


def stratified(
    labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions kept and positions held out, both sorted, with `share` of each class held out.

    A class of two or more images has at least one on either side; a single image is kept.
    Raises DataError unless 0 < share < 1, or when nothing could be held out.
    """
    if not 0 < share < 1:
        raise DataError(f"share of images to hold out: found {share:g}, expected between 0 and 1")
    order = np.random.default_rng(seed).permutation(len(labels))
    held: list[npt.NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = min(max(round(len(members) * share), 1), len(members) - 1)
        held.append(members[:count])
    held_out = np.sort(np.concatenate(held))
    if not len(held_out):
        raise DataError("every class has a single image, expected two or more to hold one out")
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def _named(candidates: Mapping[str, Path]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for split, names in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        present = [name for name in names if name in candidates]
        if len(present) > 1:
            raise DataError(f"channels: found both {' and '.join(present)}, expected one of them")
        if present:
            folders[split] = candidates[present[0]]
    return folders


def _nested(root: Path) -> dict[str, Path]:
    """The split folders inside `root`; none where its folders are classes.

    A class may be called "train" too: a split's folder holds class folders, a class's does not.
    """
    if not root.is_dir():
        return {}
    folders = _named({name: root / name for name in visible_folders(root)})
    if "train" not in folders or not visible_folders(folders["train"]):
        return {}
    return folders

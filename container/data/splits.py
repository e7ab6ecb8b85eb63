"""Finds the training, validation and test images of a job's channels."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from container.data.index import Index
from container.data.shards.reading import NoLabels, ShardSplit, holds_shards, read_shards
from container.errors import DataError
from container.files.folders import (
    SHARD_SUFFIX,
    SPLITS,
    contents,
    contents_below,
    find_layout,
    is_junk,
    left_out,
    names_no_class,
    readable,
    same_name,
    some,
    split_of,
    splits_by_name,
    unwrapped,
)


@dataclass(frozen=True)
class Splits:
    """The images for training, for choosing the best epoch, and for the final evaluation.

    `notes` are lines about ignored files.
    """

    train: Index
    validation: Index
    test: Index | None
    notes: tuple[str, ...] = ()

    def items(self) -> Iterator[tuple[str, Index]]:
        """The name and index of each split."""
        yield "train", self.train
        yield "validation", self.validation
        if self.test is not None:
            yield "test", self.test


def find_splits(
    channels: Mapping[str, Path],
    validation_split: float,
    seed: int,
    streamed: Collection[Path] = (),
) -> Splits:
    """Read the channels into splits.

    A split has class folders or tar shards.

    Args:
        channels: folders by channel: train, validation and test by any name in
            `container.files.folders.SPLITS`; or a single channel of any name, with these as folders
            or with training images only.
        validation_split: without validation images, the share of each class to hold out.
        seed: seed of the choice of held-out images.
        streamed: folders on a mount that streams files.

    Raises:
        DataError: there are no training images or only one class, or validation or test have a
            class that training does not.
    """
    indexes, notes = read_splits(channels, streamed)
    train, test = indexes["train"], indexes.get("test")
    if "validation" in indexes:
        validation = indexes["validation"]
        if not len(validation):
            raise DataError(
                f"{readable(str(validation.root))}: no images, expected <class>/<image>"
            )
        return Splits(train, validation, test, notes)
    if validation_split == 0:
        raise DataError(
            "validation_split: found 0 and no validation channel, expected a share of the training "
            "images to keep for validation"
        )
    kept, held_out = stratified(train.labels, validation_split, seed)
    validation = replace(train.take(held_out), misplaced=(), notes=(), unusable=())
    return Splits(train.take(kept), validation, test, notes)


def read_splits(
    channels: Mapping[str, Path], streamed: Collection[Path] = ()
) -> tuple[dict[str, Index], tuple[str, ...]]:
    """The index of each split, and lines about ignored files.

    A test split without labels is ignored. Raises DataError as `find_splits` does.
    """
    folders, notes = split_folders(channels)
    places = _places(folders)
    found = _read(places.pop("train"), None, None, streamed)
    indexes, names = {"train": found.index}, found.names
    classes = indexes["train"].classes
    if len(classes) < 2:
        raise DataError(
            f"{readable(str(indexes['train'].root))}: found one class only ({classes[0]!r}), "
            "expected two or more"
        )
    for split, place in places.items():
        unlabelled = None
        if split == "test" and not place.shards:
            unlabelled = _without_labels(place.root, classes)
        if unlabelled is None:
            try:
                indexes[split] = _read(place, classes, names, streamed).index
                continue
            except NoLabels:
                if split != "test":
                    raise
                unlabelled = f"images without a class in {some(place.shards)}"
        notes = (
            *notes,
            f"{split}: left out, as it has no labels: {readable(str(place.root))} holds "
            f"{unlabelled}, expected <class>/<image>; berth transform predicts it",
        )
    return indexes, notes


def read_index(root: Path, classes: Sequence[str] | None = None) -> Index:
    """The index of a single folder with class folders or tar shards.

    Raises DataError as `Index.from_folder` and `read_shards` do.
    """
    return _read(_place(root), classes, None, ()).index


@dataclass(frozen=True)
class _Place:
    """A split's folder, and its shards; none if it has class folders."""

    root: Path
    shards: tuple[str, ...] = ()


def _place(root: Path) -> _Place:
    here = contents(root) if root.is_dir() else None
    return _Place(root, here.shards if here is not None and holds_shards(root, here) else ())


def _read(
    place: _Place,
    classes: Sequence[str] | None,
    names: tuple[str, ...] | None,
    streamed: Collection[Path],
) -> ShardSplit:
    if not place.shards:
        return ShardSplit(Index.from_folder(place.root, classes), None)
    through = any(place.root.is_relative_to(folder) for folder in streamed)
    return read_shards(place.root, place.shards, classes, names=names, streamed=through)


def _places(folders: Mapping[str, Path]) -> dict[str, _Place]:
    """The place of each split; shards in the training folder may have the split in their names.

    Raises DataError if only some shards do, or a split has two places.
    """
    places = {split: _place(folder) for split, folder in folders.items()}
    train = places["train"]
    named: dict[str | None, list[str]] = {}
    for name in train.shards:
        named.setdefault(_split_of_shard(name), []).append(name)
    if "train" not in named or not named.keys() - {"train", None}:
        return places  # the folder determines the split
    shown = readable(str(train.root))
    if None in named:
        raise DataError(
            f"{shown}: found shards named after their split, as {readable(named['train'][0])}, and "
            f"shards that are not, as {readable(named[None][0])}, expected a split in each name"
        )
    if twice := [split for split in named if split != "train" and split in places]:
        raise DataError(
            f"{shown}: found shards of {some(map(str, twice))} among those of train and a folder "
            "or channel of it too, expected one of them"
        )
    places |= {str(split): _Place(train.root, tuple(names)) for split, names in named.items()}
    return {split: places[split] for split in SPLITS if split in places}


def _split_of_shard(name: str) -> str | None:
    """The split in a shard's name: `imagenet-train-000.tar`, `val_12.tar`."""
    parts = re.split(r"[\s._-]+", name.lower().partition(SHARD_SUFFIX)[0])
    found = {split for part in parts if (split := split_of(part))}
    return found.pop() if len(found) == 1 else None


def split_folders(channels: Mapping[str, Path]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of "train" and, if any, "validation" and "test"; and notes.

    Raises DataError if there is no train, or a split has two names.
    """
    junk = sorted(name for name in channels if is_junk(name))
    notes = [f"channels: {left_out('left by a tool', junk)}"] if junk else []
    channels = {name: path for name, path in channels.items() if name not in junk}
    named = splits_by_name(channels)
    for split, names in named.items():
        if len(names) > 1:
            both = " and ".join(names)
            raise DataError(f"channels: found both {both}, expected one of them for {split}")
    folders = {split: channels[names[0]] for split, names in named.items()}
    if not folders and len(channels) == 1:
        folders = {"train": next(iter(channels.values()))}
    elif unknown := sorted(name for name in channels if split_of(name) is None):
        notes.append(f"channels: {left_out('not train, validation or test', unknown)}")
    if "train" not in folders:
        found = ", ".join(sorted(channels)) or "none"
        raise DataError(f"channels: found {found}, expected train (and validation, test)")
    root = folders["train"]
    if not root.is_dir():
        raise DataError(f"{readable(str(root))}: not a folder, expected one folder per class")
    layout = find_layout(contents_below(root), f"{root}/")
    notes += layout.notes
    nested = {split: root / path for split, path in layout.splits.items()}
    twice = [split for split in nested if split != "train" and split in folders]
    if twice:
        raise DataError(
            f"{readable(str(root))}: found {some(twice)} inside the train channel and as a channel "
            "too, expected one of them"
        )
    for split in folders.keys() - {"train"}:
        folders[split] = unwrapped(folders[split]) if folders[split].is_dir() else folders[split]
    folders = {**folders, **nested}
    return {split: folders[split] for split in SPLITS if split in folders}, tuple(notes)


def stratified(
    labels: npt.NDArray[np.int64], share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions kept and positions held out, both sorted, with `share` of each class held out.

    A class of two or more images has at least one in each part; a single image is kept.
    Raises DataError unless 0 < share < 1, or if nothing could be held out.
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


def _without_labels(folder: Path, classes: tuple[str, ...]) -> str | None:
    """Describe the contents of a test folder without class folders; None if it has them.

    Folders that are not classes of training are taken for misspelled classes, unless there is only
    one, or all have names such as "unknown" or "images".
    """
    here = contents(folder) if folder.is_dir() else None
    if here is None:
        return None
    filled = [name for name in here.folders if contents(folder / name)]
    if not filled:
        return f"{len(here.files):,} files and no class folders" if here.files else "nothing"
    known = {same_name(name) for name in classes}
    if any(same_name(name) in known for name in filled):
        return None
    if len(filled) == 1 or all(map(names_no_class, filled)):
        return f"only {some(f'{name}/' for name in filled)}, which training does not have"
    return None

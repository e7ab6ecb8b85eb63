"""The index of a split that lies in tar shards.

    found = read_shards(root, ("000.tar", "001.tar"))
    found.index.read(0)                    # the bytes of the first sample's image

A sample's class is its `.cls` or an attribute of its `.json`; where no shard has any of them, the
folder its image lies in.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from container.data.index import Index, unknown_classes
from container.data.members import Members, MemberTable, OpenShards
from container.data.shards.class_names import is_class_file, read_class_names
from container.data.shards.labels import number_of
from container.data.shards.samples import ShardSamples, read_samples
from container.errors import DataError
from container.files.folders import (
    COMPRESSED_SHARDS,
    FolderContents,
    check_class_names,
    contents,
    is_image_name,
    left_out,
    readable,
    some,
    split_of,
)
from container.files.progress import ProgressBar

STREAMS = 8
"""Shards that are read at once where they are streamed: each waits for the network."""


LIES_BY_CLASS = (
    "the shards' samples lie in the order of their class: streamed (FastFile mode), a batch comes "
    "from few places and so has few classes; write the shards shuffled, or use File mode"
)
"""The note on shards whose order a shuffle within a buffer cannot make up for."""


class NoLabels(DataError):
    """The shards of a split hold images, and no class of any."""


@dataclass(frozen=True)
class ShardSplit:
    """A split of shards.

    Attributes:
        index: its images.
        names: the name of each class number, by a file beside the shards; None without any.
    """

    index: Index
    names: tuple[str, ...] | None


def holds_shards(root: Path, here: FolderContents) -> bool:
    """Whether a split's images are in shards: there are some, and no image in a class folder."""
    return bool(here.shards) and not any(
        is_image_name(file) for folder in here.folders for file in contents(root / folder).files
    )


def read_shards(
    root: Path,
    shards: Sequence[str],
    classes: Sequence[str] | None = None,
    *,
    names: tuple[str, ...] | None = None,
    streamed: bool = False,
) -> ShardSplit:
    """Read the headers and labels of some shards.

    Args:
        root: their folder.
        shards: their names, of all those that the folder has.
        classes: fixes the order of the classes; by default the names in their file, else those
            found: numbers in their order, names sorted.
        names: the names of numbered classes, where no file in `root` says them.
        streamed: read over images rather than skip them.

    Raises:
        DataError: a shard is compressed, there is no sample, a class is none of `classes`, or the
            classes' file cannot be used.
        NoLabels: no image has a class.
    """
    shown = readable(str(root))
    packed = [name for name in shards if name.lower().endswith(COMPRESSED_SHARDS)]
    if packed:
        raise DataError(
            f"{shown}: found {some(packed)}, expected plain .tar: an image is read at its place in "
            "a tar, which a compressed one has not; images are compressed already"
        )
    own = read_class_names(root)
    if own is not None and names is not None and own != names:
        raise DataError(
            f"{shown}: its file of class names has others than the training split's, expected the "
            "same"
        )
    names = names if own is None else own
    files = OpenShards(root)
    parts: list[ShardSamples] = []
    with (
        ThreadPoolExecutor(STREAMS if streamed else 1) as threads,
        ProgressBar(f"indexing {shown}", len(shards)) as progress,
    ):
        for part in threads.map(
            lambda shard: read_samples(files, shard, streamed=streamed), shards
        ):
            parts.append(part)
            progress.advance()
    builder = _Builder(root, parts, names)
    builder.find_labels()
    order = builder.order(classes)
    index = builder.index(files, order, streamed=streamed)
    if classes is None and streamed and _lies_by_class(index):
        index = replace(index, notes=(*index.notes, LIES_BY_CLASS))
    return ShardSplit(index, names)


@dataclass
class _Builder:
    root: Path
    parts: Sequence[ShardSamples]
    names: tuple[str, ...] | None
    labels: list[str] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = frozenset(() if self.names is None else self.names)
        self._by_member = any(part.labelled for part in self.parts)

    def find_labels(self) -> None:
        """The class of each image, "" for one that has none, which is unusable."""
        shown = readable(str(self.root))
        images = sum(len(part.labels) for part in self.parts)
        self.unusable = [each for part in self.parts for each in part.unusable]
        if not images:
            more = f": {self.unusable[0][1]}" if self.unusable else ""
            raise DataError(
                f"{shown}: found no image in {some(part.shard for part in self.parts)}, expected "
                f"KEY.jpg and KEY.cls, or CLASS/FILE.jpg{more}"
            )
        splits: dict[str, str] = {}
        for part in self.parts:
            start = 0
            for number, label in enumerate(part.labels):
                end = part.ends[number]
                reason = part.reasons.get(number)
                if self._by_member:
                    label, reason = self._by_number(label, reason)
                    if not label and reason is None:
                        name = part.names[start:end].decode()
                        reason = f"found no label, expected {_key(name)}.cls"
                else:
                    name = part.names[start:end].decode()
                    label = self._by_folder(part.member(name), name, splits)
                    reason = (
                        reason or "found no class, expected CLASS/FILE.jpg, or KEY.cls beside it"
                    )
                self.labels.append(label)
                if not label:
                    name = part.member(part.names[start:end].decode())
                    self.unusable.append((name, f"{readable(name)}: {reason}"))
                start = end
        if not any(self.labels):
            besides = _besides(self.parts)
            raise NoLabels(
                f"{shown}: found {images:,} images and a class of none{besides}; "
                f"{self.unusable[-1][1]}"
            )

    def _by_number(self, label: str, reason: str | None) -> tuple[str, str | None]:
        """The name of a label, by the file of names."""
        if self.names is None or not label:
            return label, reason
        number = number_of(label)
        if number is not None and number < len(self.names):
            return self.names[number], reason
        if label in self._known:
            return label, reason
        expected = f"0 to {len(self.names) - 1}" if number is not None else some(self.names)
        return "", f"found class {label}, expected {expected} by the file of class names"

    def _by_folder(self, path: str, name: str, splits: dict[str, str]) -> str:
        parts = name.split("/")
        for folder in parts[:-2]:
            split = split_of(folder)
            if split is not None and splits.setdefault(split, path) and len(splits) > 1:
                first, other = (readable(each) for each in splits.values())
                raise DataError(
                    f"{readable(str(self.root))}: found {' and '.join(splits)} in the same shards "
                    f"({first}, {other}), expected a folder or shards of its own for each"
                )
        return sys.intern(parts[-2]) if len(parts) > 1 else ""

    def order(self, classes: Sequence[str] | None) -> tuple[str, ...]:
        """The classes in order. Raises DataError for one that training does not have."""
        found = set(self.labels) - {""}
        if classes is not None:
            if unknown := sorted(found - set(classes)):
                raise unknown_classes(self.root, unknown, classes)
            return tuple(classes)
        order = self.names or tuple(sorted(found))
        if self.names is None:
            # Folders' names are sorted as names, as those of an image folder.
            if self._by_member and all(number_of(name) is not None for name in found):
                order = tuple(sorted(found, key=int))
        elif unknown := sorted(found - self._known):
            raise unknown_classes(self.root, unknown, self.names)
        check_class_names(readable(str(self.root)), order)
        return order

    def index(self, files: OpenShards, order: Sequence[str], *, streamed: bool) -> Index:
        """The index of the images that have a class."""
        number = {name: label for label, name in enumerate(order)}
        labels = np.array([number.get(name, -1) for name in self.labels], dtype=np.int64)
        rows = np.flatnonzero(labels >= 0)
        return Index(
            root=self.root,
            classes=tuple(order),
            paths=Members(_table(files, self.parts), rows),
            labels=labels[rows],
            notes=tuple(_notes(self.root, self.parts)),
            unusable=tuple(self.unusable),
            streamed=streamed,
        )


def _lies_by_class(index: Index) -> bool:
    """Whether neighbours are of one class far more often than in a random order."""
    shares = index.counts() / len(index)
    together = float((index.labels[1:] == index.labels[:-1]).mean()) if len(index) > 1 else 0.0
    return together > (1 + float(np.square(shares).sum())) / 2


def _table(files: OpenShards, parts: Sequence[ShardSamples]) -> MemberTable:
    before = np.cumsum([0, *(len(part.names) for part in parts)])
    counts = [len(part.ends) for part in parts]
    ends = [
        np.asarray(part.ends, np.int64) + start for part, start in zip(parts, before, strict=False)
    ]
    return MemberTable(
        files=files,
        shards=tuple(part.shard for part in parts),
        names=b"".join(part.names for part in parts),
        ends=np.concatenate(ends),
        shard=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
        offset=_joined(part.offset for part in parts),
        size=_joined(part.size for part in parts),
    )


def _joined(parts: Iterable[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def _notes(root: Path, parts: Sequence[ShardSamples]) -> Iterator[str]:
    here = contents(root)
    reasons: dict[str, Iterable[str]] = {
        "left by a tool": dict.fromkeys(
            (*here.junk, *(part.member(name) for part in parts for name in part.junk))
        ),
        "beside the shards": (
            *(f"{name}/" for name in here.folders),
            *(name for name in here.files if name not in here.shards and not is_class_file(name)),
        ),
        "another image of its key": [name for part in parts for name in part.others],
        "no sample in it": [part.shard for part in parts if not part.labels],
    }
    for why, names in reasons.items():
        if names := list(names):
            yield left_out(why, names)
    for ending, (count, first) in sorted(_unused(parts).items()):
        shown = f".{readable(ending)}" if ending else "no ending"
        yield (
            f"left out (neither an image nor a label by its ending): {shown}: {count:,}, first "
            f"{first}"
        )


def _unused(parts: Sequence[ShardSamples]) -> Mapping[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for part in parts:
        for ending, (count, first) in part.unused.items():
            before, name = found.get(ending, (0, readable(part.member(first))))
            found[ending] = (before + count, name)
    return found


def _besides(parts: Sequence[ShardSamples]) -> str:
    unused = _unused(parts)
    return f" (besides {some(f'.{ending}' for ending in unused)})" if unused else ""


def _key(name: str) -> str:
    base = name.rpartition("/")[2]
    return base.partition(".")[0]

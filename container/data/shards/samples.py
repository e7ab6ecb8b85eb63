"""The samples of one shard: members whose names differ only after their first dot.

The rules are WebDataset's: `dir/0001.jpg` and `dir/0001.cls` are one sample of the key `dir/0001`;
`.seg.png` is another ending than `.png`. They may lie anywhere in the shard.
"""

import re
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from container.data.members import SEPARATOR, OpenShards
from container.data.shards.headers import BadShard, CompressedShard, members_of, refusal
from container.data.shards.labels import (
    CLASS_ENDINGS,
    JSON_ENDING,
    LARGEST_JSON,
    LARGEST_LABEL,
    BadLabel,
    class_label,
    json_label,
)
from container.errors import DataError
from container.files.folders import is_image_name, is_junk, is_utf8, readable, some

PREFERRED = ("jpg", "jpeg", "png", "webp")
"""Endings of a sample's image among several, as WebDataset's users ask for them."""

_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
_SMALL = 8 << 10
_LARGE = 4 << 20
# Bytes read at once: a few headers of small images; streamed, enough to go over the data.


@dataclass
class ShardSamples:
    """What one shard holds.

    Attributes:
        shard: its path below the root.
        names: the images' names in UTF-8, one after the other; `ends` where each ends.
        offset, size: of their data, in bytes.
        labels: of each, "" where none was found.
        reasons: why, by the image's number, where there is more to say.
        labelled: whether it holds any member that is a label.
        unusable: name and line of members that cannot be used.
        unused: members that are neither image nor label, by their ending: how many, and the first.
        junk: what tools left.
        others: further images of samples that have one.
    """

    shard: str
    names: bytearray = field(default_factory=bytearray)
    ends: "array[int]" = field(default_factory=lambda: array("q"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    size: "array[int]" = field(default_factory=lambda: array("q"))
    labels: list[str] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    labelled: bool = False
    unusable: list[tuple[str, str]] = field(default_factory=list)
    unused: dict[str, tuple[int, str]] = field(default_factory=dict)
    junk: dict[str, None] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def member(self, name: str) -> str:
        """`shard!name`."""
        return f"{self.shard}{SEPARATOR}{name}"

    def refuse(self, name: str, why: str) -> None:
        """Leave a member out, with a line."""
        # Names that are no UTF-8 would be no JSON either.
        path = self.member(name if is_utf8(name) else readable(name))
        self.unusable.append((path, f"{readable(path)}: {why}"))

    def add(self, name: str, offset: int, size: int, label: str, reason: str | None = None) -> None:
        """Keep an image."""
        if reason is not None:
            self.reasons[len(self.labels)] = reason
        self.names += name.encode()
        self.ends.append(len(self.names))
        self.offset.append(offset)
        self.size.append(size)
        self.labels.append(sys.intern(label))


def read_samples(files: OpenShards, shard: str, *, streamed: bool) -> ShardSamples:
    """Read one shard's headers and labels; of images nothing.

    Raises:
        DataError: it is compressed.
    """
    found = _Pass(files, ShardSamples(shard))
    path: Path = files.root / shard
    try:
        for info in members_of(path, _LARGE if streamed else _SMALL):
            name = info.name.removeprefix("./")
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            if junk := next(filter(is_junk, parts), None):
                found.samples.junk[junk] = None
            elif not info.isdir():
                why = refusal(info)
                if why is None:
                    found.add(name, info.offset_data, info.size)
                else:
                    found.samples.refuse(name, why)
    except CompressedShard as error:
        raise DataError(f"{readable(str(path))}: {error}") from None
    except BadShard as error:
        found.samples.unusable.append((shard, f"{readable(shard)}: {readable(str(error))}"))
    except OSError as error:
        found.samples.unusable.append(
            (shard, f"{readable(shard)}: cannot be read: {error.strerror}")
        )
    found.finish()
    return found.samples


@dataclass(frozen=True, slots=True)
class _ImageMember:
    name: str
    ending: str
    offset: int
    size: int


class _Pass:
    """What is known of a shard's samples on the way through it."""

    def __init__(self, files: OpenShards, samples: ShardSamples) -> None:
        self._files, self.samples = files, samples
        self._names: set[str] = set()
        self._images: list[tuple[str, _ImageMember]] = []
        # By key: the rank of the ending it comes from (0 the best), and the label.
        self._labels: dict[str, tuple[int, str]] = {}
        self._problems: dict[str, str] = {}
        self._label_members: dict[str, str] = {}

    def add(self, name: str, offset: int, size: int) -> None:
        """A member that is a file."""
        split = _KEY.fullmatch(name)
        key, ending = (split[1], split[2].lower()) if split else (name, "")
        if is_image_name(name):
            if self._is_new(name):
                self._images.append((key, _ImageMember(name, ending, offset, size)))
        elif ending in CLASS_ENDINGS:
            if self._is_new(name):
                self._label_members[key] = name
                rank = CLASS_ENDINGS.index(ending)
                self._label(key, name, rank, offset, size, LARGEST_LABEL * 4, class_label)
        elif ending == JSON_ENDING and key not in self._labels:
            if self._is_new(name):
                rank = len(CLASS_ENDINGS)
                self._label(key, name, rank, offset, size, LARGEST_JSON, json_label)
        elif ending != JSON_ENDING:
            count, first = self.samples.unused.get(ending, (0, name))
            self.samples.unused[ending] = (count + 1, first)

    def finish(self) -> None:
        """The samples, when all members are known."""
        samples = self.samples
        samples.labelled = bool(self._labels or self._label_members)
        if not samples.labelled:
            for key, image in self._images:
                reason = self._problems.get(key)
                samples.add(image.name, image.offset, image.size, "", reason)
            return
        by_key: dict[str, list[_ImageMember]] = defaultdict(list)
        for key, image in self._images:
            by_key[key].append(image)
        for key, images in by_key.items():
            chosen = self._choose(images)
            if chosen is None:
                continue
            _, label = self._labels.get(key, (0, ""))
            reason = None if label else self._problems.get(key)
            samples.add(chosen.name, chosen.offset, chosen.size, label, reason)
        for key, name in self._label_members.items():
            if key not in by_key:
                samples.refuse(
                    name, f"found no image of its key, expected {_base(key)}.jpg or such"
                )

    def _is_new(self, name: str) -> bool:
        if name in self._names:
            self.samples.refuse(name, "found twice in the shard, expected once")
            return False
        self._names.add(name)
        return True

    def _label(
        self,
        key: str,
        name: str,
        rank: int,
        offset: int,
        size: int,
        largest: int,
        parse: Callable[[bytes], str | None],
    ) -> None:
        try:
            if size > largest:
                raise BadLabel(f"found {size:,} bytes, expected at most {largest:,}")
            data = self._files.read(self.samples.shard, offset, size)
            label = parse(data)
        except BadLabel as error:
            self._problems[key] = f"{readable(_base(name))}: {error}"
            return
        except OSError as error:
            self._problems[key] = f"{readable(_base(name))}: cannot be read: {error.strerror}"
            return
        if label is None:
            self._problems[key] = f"found no label in {readable(_base(name))}, expected one"
        elif key not in self._labels or rank < self._labels[key][0]:
            self._labels[key] = (rank, label)

    def _choose(self, images: Sequence[_ImageMember]) -> _ImageMember | None:
        """A sample's one image; None, with a line each, where it cannot be told."""
        plain = sorted((each for each in images if "." not in each.ending), key=_preference)
        if not plain and len(images) > 1:
            endings = some(f".{each.ending}" for each in images)
            for each in images:
                self.samples.refuse(
                    each.name,
                    f"found the images {endings} of one key, expected one, as "
                    f"{_base(each.name).partition('.')[0]}.jpg",
                )
            return None
        chosen = plain[0] if plain else images[0]
        self.samples.others += [
            self.samples.member(each.name) for each in images if each is not chosen
        ]
        return chosen


def _preference(image: _ImageMember) -> int:
    ending = image.ending
    return PREFERRED.index(ending) if ending in PREFERRED else len(PREFERRED)


def _base(name: str) -> str:
    return name.rpartition("/")[2]

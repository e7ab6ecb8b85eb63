"""Finds splits and classes in a folder tree, and recognises junk files.

    find_layout(contents_of, "photos").splits      # {"train": "dogImages/train/", ...}

Shared by training, lint, upload and `--data`, for folders and S3 prefixes, so that all interpret a
folder in the same way. Needs neither numpy nor torch.
"""

import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from container.errors import DataError

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "validation": (
        "validation", "valid", "val", "validate", "validating", "dev", "devel", "development",
        "eval", "evaluation",
    ),
    "test": ("test", "testing", "tst"),
}  # fmt: skip
"""The splits and their possible names, in any case, also as `train_set` or `val2017`."""

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".heic", ".heif", ".jxl",
})  # fmt: skip
"""Suffixes of image files, whether or not they can be decoded here."""

SHARD_SUFFIX = ".tar"
"""The suffix of shards: tars whose members are images and their labels (WebDataset)."""
COMPRESSED_SHARDS = (
    ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4",
)  # fmt: skip
"""Suffixes of compressed tars, whose members cannot be read individually."""

DEPTH = 4
"""Levels of wrapping folders that are searched for the splits."""

_SHOWN = 5
_KINDS = ("folder", "file", "circular")
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_SEPARATORS = re.compile(r"[\s._-]+")
_ENDINGS = ("dataset", "data", "set", "split", "images", "image", "imgs", "img", "folder", "dir")
# Files and folders of operating systems, file servers, archivers, editors and S3 tools. Names that
# start with a dot (.git, .DS_Store, .ipynb_checkpoints, ._000.jpg) are junk, too.
_JUNK = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini",
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "msocache",
    "__macosx", "network trash folder", "temporary items", "lost+found",
    "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin",
    "__pycache__", "node_modules", "_gsdata_", "_success", "_temporary", "_spark_metadata",
})  # fmt: skip
_UNLABELLED = frozenset({
    "unknown", "unk", "none", "unlabelled", "unlabeled", "unlabel", "unlabelleddata",
    "unlabeleddata", "nolabel", "nolabels", "images", "image", "imgs", "img", "all", "files",
    "pictures", "photos",
})  # fmt: skip


@dataclass(frozen=True)
class FolderContents:
    """The direct contents of a folder, sorted.

    `junk` are files of tools, `circular` are links to a folder that contains them.
    """

    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    junk: tuple[str, ...] = ()
    circular: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, folders: Iterable[str], files: Iterable[str], circular: Iterable[str] = ()
    ) -> "FolderContents":
        """Separate junk from the other names."""
        folders, files = sorted(folders), sorted(files)
        return cls(
            folders=tuple(name for name in folders if not is_junk(name)),
            files=tuple(name for name in files if not is_junk(name)),
            junk=tuple(name for name in (*folders, *files) if is_junk(name)),
            circular=tuple(sorted(circular)),
        )

    def __bool__(self) -> bool:
        """Whether it holds anything but junk."""
        return bool(self.folders or self.files)

    @property
    def shards(self) -> tuple[str, ...]:
        """Files with the suffix of tar shards; none if there are images next to them."""
        if any(map(is_image_name, self.files)):
            return ()
        return tuple(filter(is_shard_name, self.files))

    @property
    def may_hold_images(self) -> bool:
        """Whether a split's images may be here: in class folders, or in shards."""
        return bool(self.folders or self.shards)

    def notes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Names that are never used, by reason."""
        yield "left by a tool", self.junk
        yield "a link to a folder it lies in", self.circular


ContentsOf = Callable[[str], FolderContents]
"""The contents of a folder by its path below the root: "" or "dogImages/train/"."""


@dataclass(frozen=True)
class Layout:
    """The paths of the splits below the root, "" or ending in a slash.

    `train` always exists, and is the only one if the folders are classes. `notes` are lines about
    ignored files and folders.
    """

    splits: Mapping[str, str]
    notes: tuple[str, ...] = ()


def is_junk(name: str) -> bool:
    """Whether a file or folder belongs to a tool, and is neither a class nor an image."""
    bare = name.casefold()
    return name.startswith((".", "~$")) or bare in _JUNK or bare.endswith("_$folder$")


def split_of(name: str) -> str | None:
    """The split that a folder, channel or table cell names ("Train", "val_set"), or None."""
    bare = _SEPARATORS.sub("", name.casefold()).strip("0123456789")
    if bare in _SPLIT_OF:
        return _SPLIT_OF[bare]
    short = next((bare.removesuffix(end) for end in _ENDINGS if bare.endswith(end)), "")
    return _SPLIT_OF.get(short)


def splits_by_name(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of each split, the most usual first; other names are ignored."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=_usual_first):
        split = split_of(name)
        if split is not None:
            found.setdefault(split, []).append(name)
    return found


def found_both(place: str, split: str, names: Iterable[str]) -> DataError:
    """The error for a split with several names."""
    both = " and ".join(map(readable, names))
    return DataError(
        f"found both {both} at {readable(place)}, expected one of them for {split}: merge them or "
        "rename one"
    )


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def is_shard_name(name: str) -> bool:
    """Whether a file name has the suffix of a tar, compressed or not."""
    return name.lower().endswith((SHARD_SUFFIX, *COMPRESSED_SHARDS))


def contents(folder: Path) -> FolderContents:
    """List a folder. Raises DataError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: _kind(entry) for entry in entries}
    except OSError as error:
        raise DataError(f"{readable(str(folder))}: cannot be read: {error.strerror}") from None
    return FolderContents.of(
        *([name for name, kind in kinds.items() if kind == wanted] for wanted in _KINDS)
    )


def find_layout(contents_of: ContentsOf, root: str) -> Layout:
    """Find the splits below a root, also inside folders that only wrap others.

    A class may also have the name "train": a split's folder has class folders, a class's does not.

    Args:
        contents_of: lists a folder.
        root: the root, for messages.

    Raises:
        DataError: a split has two names, or all folders are named like splits but train has no
            class folders.
    """
    where = ""
    notes: list[str] = []
    for _ in range(DEPTH):
        here = contents_of(where)
        place = f"{root}{where}"
        found = splits_by_name(here.folders)
        holds_classes = any(
            contents_of(f"{where}{name}/").may_hold_images for name in found.get("train", ())
        )
        inside = _only_wraps(contents_of, where, here)
        if holds_classes and not (inside and _holds_splits(contents_of, inside)):
            chosen = {
                split: f"{where}{_only(contents_of, where, place, split, names, notes)}/"
                for split, names in found.items()
            }
            others = [f"{name}/" for name in here.folders if split_of(name) is None]
            _note(notes, place, "not in a split", [*others, *here.files])
            _note_unused(notes, place, here)
            splits = {
                split: _unwrapped(contents_of, path, root, notes) for split, path in chosen.items()
            }
            return Layout(splits, tuple(notes))
        named = [name for names in found.values() for name in names]
        if len(here.folders) > 1 and len(named) == len(here.folders):
            raise DataError(_without_classes(place, found, named))
        if inside is None:
            break
        _note(notes, place, f"beside {inside}", here.files)
        _note_unused(notes, place, here)
        where = inside
    return Layout({"train": where}, tuple(notes))


def unwrapped(folder: Path) -> Path:
    """The folder of a split's classes: this one, or the one that it only wraps."""
    return folder / _unwrapped(contents_below(folder), "", "", [])


def contents_below(root: Path) -> ContentsOf:
    """A function that lists the folders below a root."""
    return lambda path: contents(root / path)


def check_class_names(root: str, names: Iterable[str]) -> None:
    """Raise DataError for a name that is not UTF-8, and for two that differ only in case."""
    seen: dict[str, str] = {}
    for name in names:
        if not is_utf8(name):
            raise DataError(
                f"{root}: found class folder '{readable(name)}', whose name is not UTF-8, as a "
                "model's class names are: rename it"
            )
        other = seen.setdefault(same_name(name), name)
        if other != name:
            raise DataError(
                f"{root}: found class folders {other!r} and {name!r}, which differ only in case, "
                "spaces or accents' encoding: merge them or rename one"
            )


def same_name(name: str) -> str:
    """The normalised form of a name: equal for `Cat`, `cat` and `cat `."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def names_no_class(name: str) -> bool:
    """Whether a folder's name is not a class: unknown, unlabelled, images or a split."""
    return _SEPARATORS.sub("", name.casefold()) in _UNLABELLED or split_of(name) is not None


def is_utf8(name: str) -> bool:
    """Whether a file's name is UTF-8, as S3 keys and JSON are; Linux allows any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def readable(name: str) -> str:
    r"""A name on one line: bytes that are not UTF-8 as `\xe9`, control characters escaped, too."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in name)


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    shown = [readable(name) for name in names]
    more = f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def left_out(why: str, names: Iterable[str]) -> str:
    """One line on names that are not used."""
    return f"left out ({why}): {some(names)}"


def _usual_first(name: str) -> tuple[int, str]:
    names = list(_SPLIT_OF)
    return names.index(name) if name in names else len(names), name


def _escaped(letter: str) -> str:
    # Python keeps a name's undecodable byte 0xE9 as U+DCE9 (PEP 383).
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def _kind(entry: "os.DirEntry[str]") -> str:
    try:
        if not entry.is_dir():
            return "file"
    except OSError:  # a link to itself
        return "file"
    real = os.path.realpath
    if entry.is_symlink() and Path(real(entry.path)) in (
        here := Path(real(os.path.dirname(entry.path))),  # noqa: PTH120
        *here.parents,
    ):
        return "circular"
    return "folder"


def _only(
    contents_of: ContentsOf,
    where: str,
    place: str,
    split: str,
    names: list[str],
    notes: list[str],
) -> str:
    """The folder of a split; if it has several names, empty folders are ignored."""
    filled = [name for name in names if contents_of(f"{where}{name}/")] if len(names) > 1 else names
    if len(filled) > 1:
        raise found_both(place, split, filled)
    chosen = filled[0] if filled else names[0]
    _note(notes, place, "empty", [f"{name}/" for name in names if name != chosen])
    return chosen


def _only_wraps(contents_of: ContentsOf, where: str, here: FolderContents) -> str | None:
    """The path of the only folder in a folder, if it may hold a split and has no image files."""
    if here.shards:
        return None
    # At most two: a data set may have thousands of class folders, each a request to S3.
    filled = list(
        itertools.islice(
            (
                name
                for name in here.folders
                if len(here.folders) == 1 or contents_of(f"{where}{name}/")
            ),
            2,
        )
    )
    if len(filled) != 1:
        return None
    inside = f"{where}{filled[0]}/"
    inner = contents_of(inside)
    return inside if inner.may_hold_images and not any(map(is_image_name, inner.files)) else None


def _holds_splits(contents_of: ContentsOf, where: str) -> bool:
    """Whether a folder that is named like a split contains the splits."""
    found = splits_by_name(contents_of(where).folders)
    return len(found) > 1 and any(
        contents_of(f"{where}{name}/").may_hold_images for name in found.get("train", ())
    )


def _unwrapped(contents_of: ContentsOf, where: str, root: str, notes: list[str]) -> str:
    for _ in range(DEPTH):
        here = contents_of(where)
        inside = _only_wraps(contents_of, where, here)
        if inside is None:
            break
        _note(notes, f"{root}{where}", f"beside {inside}", here.files)
        _note_unused(notes, f"{root}{where}", here)
        where = inside
    return where


def _without_classes(place: str, found: Mapping[str, list[str]], named: list[str]) -> str:
    if "train" not in found:
        return f"{readable(place)}: found {some(named)}, expected train (and validation, test)"
    train = readable(found["train"][0])
    return (
        f"{readable(place)}: found {some(named)}, but no class folders in {train}, expected "
        f"{train}/<class>/<image>; labels in a table or manifest: berth data import"
    )


def _note(notes: list[str], place: str, why: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        notes.append(f"{readable(place)}: {left_out(why, names)}")


def _note_unused(notes: list[str], place: str, here: FolderContents) -> None:
    for why, names in here.notes():
        _note(notes, place, why, names)

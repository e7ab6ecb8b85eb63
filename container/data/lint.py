"""Checks every image before training starts.

    python -m container.data.lint FOLDER

FOLDER has train/, validation/ and test/, or class folders, or tar shards. The exit code is 1 if
there are findings. The folder is not changed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from container.data.index import DIGEST_BYTES, Index, content_digest
from container.data.splits import Splits, read_splits
from container.errors import BadImage, BerthError, DataError
from container.files.folders import readable, some
from container.files.progress import ProgressBar
from container.images.checking import Checker
from container.images.decode import printable

IMBALANCE = 10
"""Smallest ratio of the largest class to the smallest to warn about, as in rule ClassImbalance."""

_SHOWN = 5
_CHUNK = 64


@dataclass(frozen=True)
class BadFile:
    """A file that is not an image or cannot be decoded, and the reason in one line."""

    split: str
    path: str
    reason: str


@dataclass(frozen=True)
class Twin:
    """Two files with the same bytes."""

    split: str
    path: str
    other_split: str
    other_path: str


@dataclass(frozen=True)
class LintReport:
    """The findings.

    Attributes:
        images: number of files by split.
        bad: files that are not usable images.
        leaks: images in two splits.
        conflicts: images in two classes.
        empty: classes without images, by split.
        misplaced: files outside class folders, by split.
        imbalance: ratio of the largest class to the smallest, if it is worth a warning.
        notes: lines about ignored files.
    """

    images: dict[str, int]
    bad: tuple[BadFile, ...]
    leaks: tuple[Twin, ...]
    conflicts: tuple[Twin, ...]
    empty: dict[str, tuple[str, ...]]
    misplaced: dict[str, tuple[str, ...]]
    imbalance: float | None
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there are no findings; imbalance and notes do not count."""
        return not (self.bad or self.leaks or self.conflicts or self.empty or self.misplaced)

    def to_json(self) -> dict[str, object]:
        """The report as lists and dictionaries."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """One line per finding, including every bad file."""
        yield from self.notes
        for bad in self.bad:
            yield f"bad image in {bad.split}: {bad.reason}"
        if self.bad:
            yield f"{len(self.bad)} of {sum(self.images.values())} files are not usable images"
        for what, twins in (
            ("the same picture is in two splits", self.leaks),
            ("the same picture has two classes", self.conflicts),
        ):
            for twin in twins[:_SHOWN]:
                one, other = printable(twin.path), printable(twin.other_path)
                yield f"{what}: {twin.split}/{one} and {twin.other_split}/{other}"
            if len(twins) > _SHOWN:
                yield f"{what}: {len(twins)} times in all"
        for split, names in self.empty.items():
            yield f"{split}: no images of {some(names)}"
        for split, names in self.misplaced.items():
            yield f"{split}: not used because not <class>/<image>: {some(names)}"
        if self.imbalance is not None:
            yield f"train: the largest class has {self.imbalance:.0f} times the smallest's images"


def inspect(
    splits: Mapping[str, Index], notes: Sequence[str] = (), *, log: TextIO | None = None
) -> LintReport:
    """Read, hash and decode every file of the named splits, in threads, and compare them.

    Args:
        splits: name → images.
        notes: included in the report.
        log: where progress is printed, by default standard output.
    """
    return _report(splits, _examine_all(splits, frozenset(), log), notes)


def _report(
    splits: Mapping[str, Index], checked: "Mapping[str, list[_CheckedFile]]", notes: Sequence[str]
) -> LintReport:
    leaks, conflicts = _twins(splits, checked)
    return LintReport(
        images={split: len(index) + len(index.unusable) for split, index in splits.items()},
        bad=tuple(bad for split, index in splits.items() for bad in _bad(split, index, checked)),
        leaks=leaks,
        conflicts=conflicts,
        empty=_empty(splits, checked),
        misplaced={split: index.misplaced for split, index in splits.items() if index.misplaced},
        imbalance=_imbalance(next(iter(splits.values()))),
        notes=(
            *notes,
            *(f"{split}: {note}" for split, index in splits.items() for note in index.notes),
        ),
    )


def _bad(
    split: str, index: Index, checked: "Mapping[str, list[_CheckedFile]]"
) -> Iterator[BadFile]:
    for path, reason in index.unusable:
        yield BadFile(split, path, reason)
    for position, each in enumerate(checked[split]):
        if each.reason:
            yield BadFile(split, index.paths[position], each.reason)


def lint(
    splits: Splits,
    *,
    on_bad_image: Literal["skip", "fail"],
    report: Callable[[str], object] = print,
    known: Container[bytes] = frozenset(),
) -> Splits:
    """Report the findings of `inspect`, a line each, and return the splits without bad files.

    Classes without usable images are removed, and the returned indexes have digests.

    Args:
        splits: the splits.
        on_bad_image: whether to skip bad files or to raise an error.
        report: called with each line.
        known: digests of files that were decoded before, which are only read.

    Raises:
        DataError: there is a bad file and `on_bad_image` is "fail", a split has no usable image,
            train has no usable image of a class that another split has, or fewer than two classes
            are left.
    """
    checked = _examine_all(dict(splits.items()), known)
    named = {split: _with_digests(index, checked[split]) for split, index in splits.items()}
    findings = _report(named, checked, splits.notes)
    for line in findings.lines():
        report(line)
    if findings.bad and on_bad_image == "fail":
        more = f" ({len(findings.bad)} such files)" if len(findings.bad) > 1 else ""
        raise DataError(f"{findings.bad[0].split}: {findings.bad[0].reason}{more}")
    kept = _usable(named, findings, report)
    return replace(
        splits, train=kept["train"], validation=kept["validation"], test=kept.get("test")
    )


def main(arguments: list[str] | None = None) -> int:
    """Lint one folder from the command line; 0 when clean, 1 otherwise.

    With `--exit-zero`, it is 1 only if training would reject the folder.
    """
    parser = argparse.ArgumentParser(
        prog="python -m container.data.lint", description="Check an image folder."
    )
    parser.add_argument(
        "folder",
        type=Path,
        help="train/ validation/ test/, or class folders; or tar shards",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--exit-zero", action="store_true", help="exit with 0 unless training would refuse it"
    )
    options = parser.parse_args(arguments)
    try:
        splits, notes = read_splits({"folder": options.folder})
        findings = inspect(splits, notes, log=sys.stderr)
    except BerthError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(findings.to_json(), indent=2))
    else:
        for line in findings.lines():
            print(line)
        counts = ", ".join(f"{split} {count:,}" for split, count in findings.images.items())
        print(f"{len(splits['train'].classes)} classes; files: {counts}")
    if options.exit_zero:
        return _refused(splits, findings, sys.stderr if options.json else sys.stdout)
    return 0 if findings.clean else 1


def _refused(splits: Mapping[str, Index], findings: LintReport, out: TextIO) -> int:
    """Return 1 and print the reason if training would reject the usable images; else 0."""
    try:
        _usable(splits, findings, lambda line: print(line, file=out))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _usable(
    splits: Mapping[str, Index], findings: LintReport, report: Callable[[str], object]
) -> dict[str, Index]:
    """The splits without bad files, and without classes that have no image left."""
    bad = {(file.split, file.path) for file in findings.bad}
    kept = {split: _without(split, index, bad) for split, index in splits.items()}
    return _without_empty_classes(kept, report)


@dataclass(frozen=True)
class _CheckedFile:
    digest: bytes
    reason: str


def _with_digests(index: Index, checked: "list[_CheckedFile]") -> Index:
    whole = b"".join(each.digest or bytes(DIGEST_BYTES) for each in checked)
    digests = np.frombuffer(whole, dtype=np.uint8).reshape(len(index), DIGEST_BYTES)
    return replace(index, digests=digests)


def _examine_all(
    splits: Mapping[str, Index], known: Container[bytes], log: TextIO | None = None
) -> dict[str, list[_CheckedFile]]:
    with Checker() as checker:
        return {
            split: _examine(split, index, checker, known, log) for split, index in splits.items()
        }


def _examine(
    split: str, index: Index, checker: Checker, known: Container[bytes], log: TextIO | None
) -> list[_CheckedFile]:
    starts = range(0, len(index), _CHUNK)
    checked: list[_CheckedFile] = []
    with (
        ThreadPoolExecutor() as threads,
        ProgressBar(f"checking {split} images", len(index), log=log) as progress,
    ):
        for chunk in threads.map(
            lambda start: _examine_chunk(index, start, checker, known), starts
        ):
            checked += chunk
            progress.advance(len(chunk))
    return checked


def _examine_chunk(
    index: Index, start: int, checker: Checker, known: Container[bytes]
) -> list[_CheckedFile]:
    stop = min(start + _CHUNK, len(index))
    return [_check_file(index, at, checker, known) for at in range(start, stop)]


def _check_file(
    index: Index, position: int, checker: Checker, known: Container[bytes]
) -> _CheckedFile:
    try:
        data = index.read(position)
        digest = content_digest(data)
        if digest not in known:
            checker.check(data, index.paths[position])
    except (BadImage, DataError) as error:
        return _CheckedFile(b"", str(error))
    return _CheckedFile(digest, "")


def _twins(
    splits: Mapping[str, Index], checked: Mapping[str, list[_CheckedFile]]
) -> tuple[tuple[Twin, ...], tuple[Twin, ...]]:
    first: dict[bytes, tuple[str, int]] = {}
    leaks: list[Twin] = []
    conflicts: list[Twin] = []
    for split, index in splits.items():
        for position, each in enumerate(checked[split]):
            if each.reason:
                continue
            seen = first.setdefault(each.digest, (split, position))
            if seen == (split, position):
                continue
            before = splits[seen[0]]
            twin = Twin(seen[0], before.paths[seen[1]], split, index.paths[position])
            if seen[0] != split:
                leaks.append(twin)
            if before.labels[seen[1]] != index.labels[position]:
                conflicts.append(twin)
    return tuple(leaks), tuple(conflicts)


def _empty(
    splits: Mapping[str, Index], checked: Mapping[str, list[_CheckedFile]]
) -> dict[str, tuple[str, ...]]:
    empty: dict[str, tuple[str, ...]] = {}
    for split, index in splits.items():
        good = np.array([not each.reason for each in checked[split]], dtype=bool)
        counts = np.bincount(index.labels[good], minlength=len(index.classes))
        names = tuple(np.array(index.classes)[counts == 0].tolist())
        if names:
            empty[split] = names
    return empty


def _imbalance(train: Index) -> float | None:
    counts = train.counts()
    counts = counts[counts > 0]
    ratio = float(counts.max() / counts.min()) if len(counts) else 1.0
    return ratio if ratio >= IMBALANCE else None


def _without(split: str, index: Index, bad: set[tuple[str, str]]) -> Index:
    kept = [at for at, path in enumerate(index.paths) if (split, path) not in bad]
    if not kept:
        raise DataError(f"{split}: no usable image is left in {readable(str(index.root))}")
    return index.take(kept)


def _without_empty_classes(
    splits: Mapping[str, Index], report: Callable[[str], object]
) -> dict[str, Index]:
    """The splits without the classes that have no training image left."""
    train = splits["train"]
    filled = train.counts() > 0
    if filled.all():
        return dict(splits)
    empty = some(name for name, has in zip(train.classes, filled, strict=True) if not has)
    for split, index in splits.items():
        if index.counts()[~filled].any():
            raise DataError(
                f"{split}: found images of {empty}, of which train has no usable image, expected "
                "some in each"
            )
    if filled.sum() < 2:
        raise DataError(
            f"{readable(str(train.root))}: no usable image of {empty}, expected two classes or more"
        )
    report(f"train: no class, as no file in it is a usable image: {empty}")
    numbers = np.cumsum(filled) - 1
    classes = tuple(name for name, has in zip(train.classes, filled, strict=True) if has)
    return {
        split: replace(index, classes=classes, labels=numbers[index.labels])
        for split, index in splits.items()
    }


if __name__ == "__main__":
    sys.exit(main())

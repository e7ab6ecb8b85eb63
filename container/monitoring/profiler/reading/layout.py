"""Finds the files of a recording from any of its folders."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from container.monitoring.profiler.reading.text import RecordingWarnings

_SYSTEM = re.compile(r"(^|/)system/(.*/)?[^/]+\.json$")
_EVENTS = re.compile(r"(^|/)(pevents/(.*/)?[^/]+\.json|framework/[^/]+timeline\.json\.tmp)$")
"""The latter are those that a process that was killed was still writing."""
_OPERATORS = re.compile(r"-operators\.json$")
_NAMED = {"job.json": "jobs", "curves.jsonl": "curves", "metrics.jsonl": "epochs"}
_ROOT = ("system", "framework", "job.json")
"""What the profiler's own folder holds; the job's other files lie around that folder."""
_PROFILE = re.compile(r"^(.*?)/?(system|framework)/")
_HOST = re.compile(r"(^|/)algo-\d+(?=/|$)")


@dataclass(frozen=True)
class RecordingLayout:
    """The files of a recording by kind, in the order in which they are read.

    Attributes:
        root: the folder the others are named relative to.
        system: system metrics, oldest first.
        events: framework events, oldest first.
        operators: torch.profiler's tables.
        jobs: job.json of every host, the first host's first.
        curves, epochs, rules: the first of their kind, or None.
    """

    root: Path
    system: tuple[Path, ...]
    events: tuple[Path, ...]
    operators: tuple[Path, ...]
    jobs: tuple[Path, ...]
    curves: Path | None
    epochs: Path | None
    rules: Path | None

    @classmethod
    def find(cls, folder: Path, problems: RecordingWarnings) -> "RecordingLayout":
        """Look through a folder; a file that lies in it twice, as copied, is found once."""
        root = folder.resolve()
        found: dict[str, list[Path]] = {
            kind: [] for kind in ("system", "events", "operators", "jobs", *_OTHERS)
        }
        for path in _files(root, problems):
            kind = _kind(f"{root.name}/{path.relative_to(root).as_posix()}")
            if kind is not None:
                found[kind].append(path)
        if any((root / name).exists() for name in _ROOT):
            for kind, name in _OTHERS.items():
                beside = root.parent / name
                if not found[kind] and beside.is_file() and not beside.is_symlink():
                    found[kind].append(beside)
        system, events = _once(found["system"], 3), _once(found["events"], 3)
        _note_several(root, (*system, *events), problems)
        firsts = {kind: min(found[kind], key=_depth, default=None) for kind in _OTHERS}
        return cls(
            root=root,
            system=system,
            events=events,
            operators=_once(found["operators"], 1),
            jobs=tuple(sorted(found["jobs"], key=_depth)),
            curves=firsts["curves"],
            epochs=firsts["epochs"],
            rules=firsts["rules"],
        )

    def name(self, path: Path) -> str:
        """A file's name for messages."""
        return path.relative_to(
            self.root if path.is_relative_to(self.root) else self.root.parent
        ).as_posix()


_OTHERS = {"curves": "curves.jsonl", "epochs": "metrics.jsonl", "rules": "rules/debug.json"}
"""What lies around the profiler's folder, relative to `output/data`."""


def _kind(name: str) -> str | None:
    if _EVENTS.search(name):
        return "events"
    if _SYSTEM.search(name):
        return "system"
    if _OPERATORS.search(name):
        return "operators"
    if name.endswith("rules/debug.json"):
        return "rules"
    return _NAMED.get(name.rpartition("/")[2])


def _files(root: Path, problems: RecordingWarnings) -> Iterator[Path]:
    """Regular files below a folder, by path; links are not followed."""
    for parent, folders, names in os.walk(root):
        here = Path(parent)
        for name in sorted([*folders, *names]):
            path = here / name
            if path.is_symlink() and _leaves(path, root):
                problems.note("a link out of the folder, not followed", str(path.relative_to(root)))
        folders.sort()
        for name in sorted(names):
            path = here / name
            if path.is_file() and not path.is_symlink():
                yield path


def _leaves(link: Path, root: Path) -> bool:
    try:
        place = link.resolve(strict=True)
    except FileNotFoundError:
        place = link.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return True
    return not place.is_relative_to(root)


def _note_several(root: Path, paths: Iterable[Path], problems: RecordingWarnings) -> None:
    """Warn of a folder that holds the profiles of several jobs, which cannot be separated."""
    found = {_PROFILE.match(path.relative_to(root).as_posix()) for path in paths}
    profiles = sorted({_HOST.sub("", match[1]).strip("/") for match in found if match})
    if len(profiles) > 1:
        problems.note(
            f"{len(profiles)} profiles lie in this folder ({', '.join(profiles[:3])}"
            f"{', …' if len(profiles) > 3 else ''}) and are read as one job's"
        )


def _depth(path: Path) -> tuple[int, str]:
    return len(path.parts), str(path)


def _once(paths: list[Path], parts: int) -> tuple[Path, ...]:
    """Without copies: files of one size under the same last names."""
    seen: dict[tuple[tuple[str, ...], int], Path] = {}
    for path in sorted(paths, key=_depth):
        with contextlib.suppress(OSError):  # a job that runs has renamed it meanwhile
            seen.setdefault((path.parts[-parts:], path.stat().st_size), path)
    return tuple(sorted(seen.values(), key=lambda path: (path.parts[-2:], str(path))))

"""Where features are kept: SageMaker's warm-pool cache, a folder of the job's own, a channel.

Several jobs may share a cache. Whoever computes something holds its lock while the others wait; the
system releases the lock of a process that dies. Whoever reads holds another, shared, so that what
is in use is not removed when room is made.
"""

import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

from container.environment import Environment
from container.errors import FeatureError
from container.features.key import differences
from container.features.store import DESCRIPTION, PARTIAL, read_description
from container.training.checkpoint import Interrupted

LIMIT = 20 << 30
"""Bytes a shared cache may grow to; what was not used for longest goes first."""
FOLDER = "features"
_LOCKS = "locks"
_POLL_SECONDS = 0.1


def cache_root(environment: Environment) -> Path:
    """`features` in the warm-pool cache, else in the tree: neither of the model nor the output."""
    return (environment.warm_pool or environment.base) / FOLDER


@dataclass
class FeatureCache:
    """A folder of features, each under its key, and of what belongs to them.

    Attributes:
        root: the folder.
        shared: whether other jobs may use it at the same time.
        channel: a folder of the same kind that is only read, the `features` channel.
        say: where messages go.
        stopped: whether the job is to stop.
    """

    root: Path
    shared: bool
    channel: Path | None = None
    say: Callable[[str], None] = print
    stopped: Callable[[], bool] = lambda: False
    _held: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:  # noqa: D105
        weakref.finalize(self, _close_all, self._held)

    @classmethod
    def find(
        cls,
        environment: Environment,
        channel: Path | None = None,
        say: Callable[[str], None] = print,
        stopped: Callable[[], bool] = lambda: False,
    ) -> "FeatureCache":
        """The cache of a job: `cache_root`, else in its tree, else a temporary folder.

        The first of them that can be written is taken.
        """
        for root in (cache_root(environment), environment.base / FOLDER):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(root, os.W_OK | os.X_OK):
                shared = environment.warm_pool in root.parents
                return cls(root, shared, channel, say, stopped)
        root = Path(mkdtemp(prefix="berth-features-"))
        return cls(root, False, channel, say, stopped)

    def folder(self, name: str) -> Path:
        """Where what is named by a key lies, whether it is there or not."""
        return self.root / name

    def in_channel(self, name: str) -> Path | None:
        """Where the channel has it, if it does."""
        folder = None if self.channel is None else self.channel / name
        return folder if folder is not None and folder.is_dir() else None

    def hold(self, name: str) -> None:
        """Keep what is named from being removed while this process lives; marks it as used."""
        with self._open_lock(f"{name}.read") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._held.append(os.dup(lock.fileno()))
        with suppress(OSError):
            os.utime(self.folder(name))

    def release(self) -> None:
        """Let go of everything that is held."""
        _close_all(self._held)

    @contextmanager
    def computing(self, name: str, what: str) -> Iterator[None]:
        """Within the block no other job computes what is named; waits for one that does.

        Args:
            what: what it is, for the line that says so.

        Raises:
            Interrupted: the job is to stop.
        """
        with self._open_lock(f"{name}.build") as lock:
            reported = False
            while not _locked(lock):
                if not reported:
                    self.say(f"waiting for {what}, which another job computes")
                    reported = True
                if self.stopped():
                    raise Interrupted(f"stopped while waiting for {what}")
                time.sleep(_POLL_SECONDS)
            yield

    def make_room(self, size: int, keep: str) -> None:
        """Remove what was not used for longest, and nobody uses, until `size` bytes fit the limit.

        A cache of the job's own is not limited. What is larger than the limit is kept alone.

        Args:
            keep: the name of what is about to be written.
        """
        if not self.shared:
            return
        entries = [path for path in self.root.iterdir() if path.is_dir() and path.name != _LOCKS]
        sizes = {path: _size(path) for path in entries}
        total = sum(sizes.values())
        for path in sorted(entries, key=_used):
            if total + size <= LIMIT:
                return
            name = path.name.removesuffix(PARTIAL)
            if name != keep and self._remove(name, path):
                self.say(
                    f"features of an earlier job removed, to keep {LIMIT >> 30} GiB: {name:.12}"
                )
                total -= sizes[path]

    def _remove(self, name: str, path: Path) -> bool:
        with self._open_lock(f"{name}.build") as building, self._open_lock(f"{name}.read") as read:
            if not (_locked(building) and _locked(read)):
                return False
            shutil.rmtree(path, ignore_errors=True)
            return True

    def require_in_channel(self, name: str, parts: dict[str, Any]) -> Path:
        """Where the channel has the features of a key.

        Raises:
            FeatureError: it does not; the line says what is different about those it has.
        """
        found = self.in_channel(name)
        if found is not None:
            return found
        described = [_description(folder) for folder in sorted(_entries(self.channel))]
        near = min(
            (differences(parts, each.get("parts") or {}) for each in described if each),
            key=len,
            default=None,
        )
        has = "no features" if near is None else f"features of {', '.join(near)}"
        raise FeatureError(
            f"channel 'features' ({self.channel}): found {has}; expected those of "
            f"{parts['count']:,} images by {parts['arch']}, view {_view(parts)}, as a job with "
            "features_only=true and the same data and hyperparameters leaves them"
        )

    def _open_lock(self, name: str) -> IO[bytes]:
        folder = self.root / _LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("ab")


def _close_all(held: list[int]) -> None:
    while held:
        os.close(held.pop())


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _entries(root: Path | None) -> list[Path]:
    return [] if root is None else [path.parent for path in root.glob(f"*/{DESCRIPTION}")]


def _description(folder: Path) -> dict[str, Any]:
    try:
        return read_description(folder)
    except FeatureError:
        return {}


def _view(parts: dict[str, Any]) -> str:
    view = parts["view"]
    return "of the evaluation" if view is None else f"{view['number']} of augment={view['augment']}"


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

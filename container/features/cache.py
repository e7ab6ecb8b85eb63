"""The cache of features: SageMaker's warm-pool cache, a folder of the job, or a channel.

Several jobs may share a cache. A job that computes an entry holds its lock while others wait; the
system releases the lock when a process dies. Readers hold a second, shared lock, so that entries in
use are not evicted.
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
"""Bytes a shared cache may grow to; the least recently used entries are evicted first."""
FOLDER = "features"
_LOCKS = "locks"
_POLL_SECONDS = 0.1


def cache_root(environment: Environment) -> Path:
    """The folder `features` in the warm-pool cache, or without one in the job's own tree."""
    return (environment.warm_pool or environment.base) / FOLDER


@dataclass
class FeatureCache:
    """A folder of features and backbone graphs, each named by its key.

    Attributes:
        root: the folder.
        shared: whether other jobs may use it at the same time.
        channel: the `features` channel, a read-only folder of the same layout.
        say: where messages go.
        stopped: returns whether the job must stop.
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
        """The cache of a job: in `cache_root`, the job's tree or else a temporary folder."""
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
        """The folder of an entry, whether or not it exists."""
        return self.root / name

    def in_channel(self, name: str) -> Path | None:
        """The folder of an entry in the channel, if it exists."""
        folder = None if self.channel is None else self.channel / name
        return folder if folder is not None and folder.is_dir() else None

    def hold(self, name: str) -> None:
        """Protect an entry from eviction while this process lives, and mark it as used."""
        with self._open_lock(f"{name}.read") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._held.append(os.dup(lock.fileno()))
        with suppress(OSError):
            os.utime(self.folder(name))

    def release(self) -> None:
        """Release all entries that are held."""
        _close_all(self._held)

    @contextmanager
    def computing(self, name: str, what: str) -> Iterator[None]:
        """Within the block no other job computes this entry; waits for one that does.

        Args:
            what: the entry's description, for messages.

        Raises:
            Interrupted: the job must stop.
        """
        with self._open_lock(f"{name}.build") as lock:
            reported = False
            while not _locked(lock):
                if not reported:
                    self.say(f"waiting for another job to compute {what}")
                    reported = True
                if self.stopped():
                    raise Interrupted(f"stopped while waiting for {what}")
                time.sleep(_POLL_SECONDS)
            yield

    def make_room(self, size: int, keep: str) -> None:
        """Evict the least recently used entries that no job holds until `size` bytes fit `LIMIT`.

        Only a shared cache has a limit. An entry larger than the limit is kept on its own.

        Args:
            keep: name of the entry about to be written.
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
                limit = f"{LIMIT >> 30} GiB"
                self.say(f"removed features of an earlier job to stay below {limit}: {name:.12}")
                total -= sizes[path]

    def _remove(self, name: str, path: Path) -> bool:
        with self._open_lock(f"{name}.build") as building, self._open_lock(f"{name}.read") as read:
            if not (_locked(building) and _locked(read)):
                return False
            shutil.rmtree(path, ignore_errors=True)
            return True

    def require_in_channel(self, name: str, parts: dict[str, Any]) -> Path:
        """The folder of a key's features in the channel.

        Raises:
            FeatureError: the channel lacks them; the message names the differences to those it has.
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
            f"{parts['count']:,} images by {parts['arch']}, view {_view(parts)}, as written by a "
            "job with features_only=true and the same data and hyperparameters"
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

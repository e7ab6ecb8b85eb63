"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

EVERY = 10.0
"""Seconds between two lines in a log."""


class TransferProgress:
    """`with TransferProgress("uploading", 100) as progress: progress.advance()`, thread-safe."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._lock = threading.Lock()
        self._printed = time.monotonic()
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()

    def advance(self, by: int = 1) -> None:
        """Count `by` more units."""
        with self._lock:
            self._done += by
            if self._bar:
                self._bar.advance(self._task, by)
            elif time.monotonic() - self._printed >= EVERY:
                self._printed = time.monotonic()
                print(f"{self._what}: {self._done:,} of {self._total:,}", file=sys.stderr)

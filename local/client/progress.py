"""How far something is: a bar on a terminal, a line now and then in a log. On stderr."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY = 10.0
"""Seconds between two lines in a log."""


class Progress:
    """`with Progress("uploading", 100) as progress: progress.advance()`, from any thread."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._lock = threading.Lock()
        self._told = time.monotonic()
        console = Console(stderr=True)
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        """Show it."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bar away; what was done is the caller's to say."""
        if self._bar:
            self._bar.stop()

    def advance(self, by: int = 1) -> None:
        """So much more is done."""
        with self._lock:
            self._done += by
            if self._bar:
                self._bar.advance(self._task, by)
            elif time.monotonic() - self._told >= EVERY:
                self._told = time.monotonic()
                print(f"{self._what}: {self._done:,} of {self._total:,}", file=sys.stderr)

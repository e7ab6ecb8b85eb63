"""A progress bar on a terminal; a line every ten seconds in a log."""

import sys
import time
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """Shows progress up to `total` units; use as a context manager and call `advance`.

    Without a terminal, work shorter than ten seconds prints nothing and longer work prints
    `decoding images: 12,000 of 50,000 (1,900/s)` every ten seconds and once at the end.

    Args:
        what: the description.
        total: number of units; 0 if unknown.
        unit: name of the unit on a terminal, e.g. B.
        done: units already done.
        log: where lines go, by default standard output; a bar goes to standard error.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        unit: str = "",
        done: int = 0,
        log: TextIO | None = None,
    ) -> None:
        self._what, self._total, self._done, self._log = what, total, done, log
        self._started = self._printed = time.monotonic()
        self._at_start = done
        self._logged = False
        self._bar: tqdm[NoReturn] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                desc=what, total=total or None, initial=done, unit=unit or "it", unit_scale=True
            )

    def advance(self, count: int = 1) -> None:
        """Add `count` finished units."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._printed >= _SECONDS_BETWEEN_LINES:
            self._print_line()

    def __enter__(self) -> Self:
        """Start; without a terminal nothing is printed yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bar, or print a final line if any was printed."""
        if self._bar is not None:
            self._bar.close()
        elif self._logged and kind is None:
            self._print_line()

    def _print_line(self) -> None:
        now = time.monotonic()
        rate = (self._done - self._at_start) / max(now - self._started, 1e-9)
        of = f" of {self._total:,}" if self._total else ""
        print(f"{self._what}: {self._done:,}{of} ({rate:,.0f}/s)", file=self._log, flush=True)
        self._printed, self._logged = now, True

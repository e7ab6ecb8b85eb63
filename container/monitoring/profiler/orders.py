"""What `profilerconfig.json` says while a job runs: SageMaker rewrites it (UpdateTrainingJob)."""

import json
from collections.abc import Callable
from pathlib import Path

INTERVALS = (100, 200, 500, 1000, 5000, 60_000)
"""Milliseconds that SageMaker's API takes."""


class Orders:
    """How often to sample, and whether, as the file says once it has changed.

    Holds the standard library only, for the process that samples.

    Args:
        path: the file; it need not be there.
        interval: seconds between two samples, until the file says otherwise.
        say: told what changed.

    Attributes:
        interval: seconds between two samples.
        off: whether nothing is to be sampled.
    """

    def __init__(self, path: Path | None, interval: float, say: Callable[[str], None]) -> None:
        self.interval, self.off = interval, False
        self._path, self._say = path, say
        self._text = self._read()

    def changed(self) -> bool:
        """Whether the file asks for something else than when it was last looked at."""
        text = self._read()
        if text is None or text == self._text:
            return False
        self._text = text
        before = self.interval, self.off
        try:
            given = json.loads(text)
            found = {key.lower(): value for key, value in given.items() if value is not None}
            interval = float(found.get("profilingintervalinmilliseconds", self.interval * 1000))
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._say(f"the profiler goes on as before: {self._path} is no profiler configuration")
            return False
        if interval not in INTERVALS:
            self._say(
                f"the profiler goes on as before: {self._path}: ProfilingIntervalInMilliseconds: "
                f"expected one of {INTERVALS}, found {interval:g}"
            )
            return False
        self.interval = interval / 1000
        self.off = str(found.get("disableprofiler", False)).lower() == "true"
        if (self.interval, self.off) == before:
            return False
        self._say(
            "profiler: the machine's use is not recorded from here on; the steps' phases are"
            if self.off
            else f"profiler: the machine's use every {interval:g} ms from here on"
        )
        return True

    def _read(self) -> str | None:
        try:
            return None if self._path is None else self._path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError):
            return None

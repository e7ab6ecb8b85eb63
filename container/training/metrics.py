"""A job's log: metric lines and progress lines.

A metric line has `name=value;` entries for SageMaker's metric definitions, so the regular
expression `validation:accuracy=(.*?);` matches one metric. The same numbers go to `metrics.jsonl`.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from container.files.json_files import to_json
from container.tracking.tracker import Tracker

LOG_SECONDS = 10.0
"""Without a terminal, seconds between two progress lines at least."""


def say(message: str) -> None:
    """Print one line to the log, flushed."""
    print(message, flush=True)


class MetricLogger:
    """Prints metric lines and appends to `metrics.jsonl`; does nothing on ranks other than 0.

    Args:
        folder: the folder of `metrics.jsonl`.
        active: whether this is rank 0.
        tracker: receives the same metrics.
    """

    def __init__(self, folder: Path, *, active: bool, tracker: Tracker | None = None) -> None:
        self._path = folder / "metrics.jsonl"
        self._active = active
        self._tracker = tracker or Tracker()

    def restore(self, history: Sequence[Mapping[str, float | None]]) -> None:
        """Start with the records of the interrupted run."""
        if self._active:
            self._tracker.restore(history)
            self._path.write_text("".join(to_json(record) + "\n" for record in history))

    def epoch(self, record: Mapping[str, float]) -> None:
        """Print one epoch's metrics and append them to the file."""
        if not self._active:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")
        self.line(record)
        self._tracker.epoch(record)

    def final(self, values: Mapping[str, float]) -> None:
        """Print the trained model's metrics."""
        self.line(values)
        if self._active:
            self._tracker.final(values)

    def line(self, values: Mapping[str, float]) -> None:
        """Print a metric line."""
        if self._active:
            say(" ".join(f"{name}={_text(value)};" for name, value in values.items()))


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


class StepProgress:
    """One epoch's progress: a bar on a terminal, or a line every `LOG_SECONDS` in a log."""

    def __init__(
        self, out: Callable[[str], None], epoch: int, epochs: int, steps: int, done: int
    ) -> None:
        self._say, self._steps, self._done, self._images = out, steps, done, 0
        self._title = f"epoch {epoch}/{epochs}"
        self._since = self._logged_at = time.monotonic()
        self._bar = (
            tqdm(total=steps, initial=done, desc=self._title, leave=False, unit="step")
            if sys.stdout.isatty()
            else None
        )

    def advance(self, images: int, loss: Tensor) -> None:
        """Count one step of `images` images; the loss (a scalar) is read only if it is shown."""
        self._done += 1
        self._images += images
        if self._bar is not None:
            self._bar.update()
        now = time.monotonic()
        if now - self._logged_at < LOG_SECONDS:
            return
        self._logged_at = now
        rate = self._images / (now - self._since)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {float(loss):.3f}, {rate:.0f} images/s")
        else:
            self._say(
                f"{self._title}: step {self._done}/{self._steps}, "
                f"loss {float(loss):.3f}, {rate:.0f} images/s"
            )

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

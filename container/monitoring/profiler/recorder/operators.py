"""Profiles the operators of a few steps with torch.profiler, as a table and a Chrome trace.

`framework/torch/<host>-rank<R>-operators.json` holds
`{"host", "rank", "steps": [10, 11, 12], "operators": [{"device": "cpu" | "cuda", "name", "calls",
"self_time", "total_time"}]}`: seconds over all the steps, by device the operators with the most
time of their own. An operator's time on the GPU is that of the kernels it launched.
`…-trace.json.gz` opens in Perfetto or chrome://tracing.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container.errors import first_line
from container.files.json_files import replace_text, to_json

if TYPE_CHECKING:
    from torch.profiler import profile

MOST_OPERATORS = 50
"""Rows a device."""
KINETO_SILENT = "99"
"""Above every level of torch's tracer, which else tells a log of its stages, and of GPUs amiss."""


class OperatorProfile:
    """Profiles some training steps. Failures are logged, and training continues.

    Args:
        root: the profiler's folder.
        host: `algo-N`.
        rank: this process's rank.
        steps: the training steps to profile, from 0; may be empty.
        say: where messages go.
    """

    def __init__(
        self, root: Path, host: str, rank: int, steps: range, say: Callable[[str], None] = print
    ) -> None:
        self._folder = root / "framework" / "torch"
        self._host, self._rank, self._say = host, rank, say
        self._wanted = steps
        self._profile: profile | None = None
        self._taken: list[int] = []

    def step(self, number: int) -> None:
        """Called as every training step begins, in `timeline.phase("profiler")`.

        Costs nothing outside of the requested steps. The one before them warms the profiler up.
        """
        if not self._wanted and self._profile is None:
            return
        if number in self._wanted:
            self._take(number)
        elif number == self._wanted.start - 1:
            self._guarded(self._start, warm=True)
        elif self._profile is not None or number >= self._wanted.stop:
            self.pause()

    def pause(self) -> None:
        """Write the steps recorded so far, because an evaluation interrupts them."""
        if self._profile is not None:
            self._guarded(self._stop)
        if self._taken:
            self._wanted = range(0)

    def close(self) -> None:
        """End after the last step. Idempotent."""
        self.pause()
        self._wanted = range(0)

    def _take(self, number: int) -> None:
        if self._profile is None:
            self._guarded(self._start, warm=False)
        else:
            self._guarded(self._profile.step)
        if self._profile is not None:
            self._taken.append(number)

    def _start(self, *, warm: bool) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", KINETO_SILENT)
        import torch
        from torch.profiler import ProfilerActivity, profile, schedule

        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        plan = schedule(wait=0, warmup=1, active=len(self._wanted), repeat=1) if warm else None
        found = profile(activities=activities, schedule=plan)
        found.start()
        self._profile = found

    def _stop(self) -> None:
        found, self._profile = self._profile, None
        if found is None:
            return
        found.stop()
        if not self._taken:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"{self._host}-rank{self._rank}-trace.json.gz"
        partial = trace.with_name(f".{trace.name}")  # torch compresses by the name's end
        found.export_chrome_trace(str(partial))
        partial.rename(trace)
        table = self._folder / f"{self._host}-rank{self._rank}-operators.json"
        text = {
            "host": self._host,
            "rank": self._rank,
            "steps": self._taken,
            "operators": operator_table(found.key_averages()),
        }
        replace_text(table, to_json(text, indent=1))

    def _guarded(self, action: Callable[..., Any], **options: Any) -> None:
        """Run a profiler action; if it fails, log the error and stop profiling operators."""
        try:
            action(**options)
        except Exception as error:
            self._profile, self._wanted = None, range(0)
            self._say(f"the profiler records no operators: {first_line(error)}")


def operator_table(averages: Any) -> list[dict[str, Any]]:
    """Rows of both devices, from torch.profiler's averages by operator.

    Args:
        averages: what `key_averages` returns; times there are in microseconds.
    """
    rows: dict[str, list[dict[str, Any]]] = {"cpu": [], "cuda": []}
    for each in averages:
        # Kernels have rows of their own besides the operators that launched them.
        if each.device_type.name != "CPU" or each.key.startswith("ProfilerStep"):
            continue
        for device, own, whole in (
            ("cpu", each.self_cpu_time_total, each.cpu_time_total),
            ("cuda", each.self_device_time_total, each.device_time_total),
        ):
            if own > 0:
                rows[device].append(
                    {
                        "device": device,
                        "name": each.key,
                        "calls": each.count,
                        "self_time": own / 1e6,
                        "total_time": whole / 1e6,
                    }
                )
    return [
        row
        for device in rows
        for row in sorted(rows[device], key=lambda row: -row["self_time"])[:MOST_OPERATORS]
    ]

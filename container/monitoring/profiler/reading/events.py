"""Framework events as SageMaker and smdebug write them: Chrome traces by minute and process.

In `<end µs>_<pid>-<host>_pythontimeline.json` the `args.start_time_since_epoch_in_micros` of the
first entry is what every `ts` counts from, entries named `process_name` name the phases, and
complete events (`"ph":"X"`, microseconds) are what happened.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.reading.containment import within_steps
from container.monitoring.profiler.reading.phases import CPU, GPU, WITHIN_STEP, normalise
from container.monitoring.profiler.reading.problems import Problems
from container.monitoring.profiler.reading.ranks import ranks
from container.monitoring.profiler.reading.traces import read_trace
from container.monitoring.profiler.reading.words import LATEST, Words, printable

_FILE = re.compile(r"^((?P<end>\d{1,17})_)?(?P<source>[^_]+)_[^_]*(_timeline)?\.json(\.tmp)?$")
_SOURCE = re.compile(r"^(?P<pid>\d{1,18})-(?P<node>.+)$")
_ABSOLUTE = 1e14
"""Microseconds since 1970 (in March 1973): a `ts` beyond it counts from 1970 itself."""
_LARGEST = 2**62
NO_STEP = -1
COLUMNS = ("node", "pid", "rank", "phase", "name", "mode", "step", "start", "duration")
OPERATORS = ("rank", "device", "name", "calls", "self_time", "total_time")


@dataclass(frozen=True)
class Events:
    """What the event files hold.

    Attributes:
        table: node, pid, rank, phase, name, mode, step (-1: none), start (unix s), duration (s);
            by start.
        on_device: the same for what a GPU did of a phase.
        operators: rank, device, name, calls, self_time, total_time (s), summed over the events of
            operators, which tell no self time: it is the total.
        loader: what the loader said of itself: num_workers, pin_memory.
    """

    table: pd.DataFrame
    on_device: pd.DataFrame
    operators: pd.DataFrame
    loader: dict[str, Any]


def read_events(paths: Sequence[Path], name: Callable[[Path], str], problems: Problems) -> Events:
    """Every event of the files.

    Args:
        paths: files, oldest first.
        name: how a file is named in a problem.
    """
    gathered = _Gathered()
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            problems.note(f"could not be read ({error.strerror})", name(path))
            continue
        found, damaged = read_trace(text)
        for bad in (damaged, gathered.take(path.name, found)):
            if bad:
                problems.note(bad, name(path))
    return gathered.finish(problems)


class _Gathered:
    """Columns that grow event by event; texts as codes of their words."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, int], int] = {}
        self._source: list[int] = []
        self._on_device: list[bool] = []
        self._pid: list[int] = []
        self._rank: list[int] = []
        self._step: list[int] = []
        self._start: list[float] = []
        self._duration: list[float] = []
        self._codes: dict[str, list[int]] = {key: [] for key in ("phase", "name", "mode")}
        self._words = {key: Words() for key in self._codes}
        self._operators: dict[tuple[int, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._loader: dict[str, Any] = {}

    def take(self, file: str, found: list[dict[str, Any]]) -> str | None:
        """Add a file's events; what was wrong with them, if anything."""
        end, node, pid = _origin(file)
        source = self._sources.setdefault((node, pid), len(self._sources))
        phases: dict[Any, str] = {}
        base, placed, bad = 0.0, False, 0
        first = len(self._start)
        for event in found:
            try:
                if event["ph"] == "X":
                    phase = phases.get(event["pid"], "")
                    self._add(event, phase, source, pid, base)
                elif event["ph"] == "M":
                    args = event.get("args") or {}
                    if "start_time_since_epoch_in_micros" in args:
                        base, placed = float(args["start_time_since_epoch_in_micros"]), True
                    elif event.get("name") == "process_name":
                        phases[event["pid"]] = str(args.get("name", ""))
            except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
                bad += 1
        if not placed and not self._place(first, end):
            return "no start time in it nor in its name; its events were left out"
        return f"{bad:,} of its events could not be read and were left out" if bad else None

    def _add(self, event: dict[str, Any], process: str, source: int, pid: int, base: float) -> None:
        start, duration = float(event["ts"]) + base, float(event["dur"])
        if not (0 <= start <= LATEST * 1e6 and 0 <= duration <= LATEST * 1e6):
            raise ValueError("no time")
        name = event.get("name") or process
        if not isinstance(name, str):
            raise TypeError("no name")
        args = event.get("args") or {}
        phase, mode = normalise(process, name)
        of_device = phase == GPU and normalise("", name)[0] in WITHIN_STEP
        if of_device:
            phase, mode = normalise("", name)
        elif phase in (CPU, GPU):
            device = "cuda" if phase == GPU else "cpu"
            total = self._operators[source, device, printable(name)]
            total[0] += 1
            total[1] += duration / 1e6
            return
        step, rank = int(args.get("step_num", NO_STEP)), int(args.get("rank", -1))
        own = int(args.get("pid", pid))
        if max(abs(step), abs(rank), abs(own)) > _LARGEST:
            raise ValueError("no number of anything")
        mode = mode or str(args.get("mode", "")).lower()
        if phase == "loader start":
            kept = ("num_workers", "pin_memory")
            self._loader |= {key: args[key] for key in kept if key in args}
        for key, word in (("phase", phase), ("name", name), ("mode", mode)):
            self._codes[key].append(self._words[key][word])
        self._on_device.append(of_device)
        self._source.append(source)
        self._pid.append(own)
        self._rank.append(rank)
        self._step.append(step)
        self._start.append(start)
        self._duration.append(duration)

    def _place(self, first: int, end: float | None) -> bool:
        """Put a file without a start time where its name says that it ends."""
        starts = self._start[first:]
        if not starts or min(starts) > _ABSOLUTE:
            return True
        if end is None:
            self._forget(first)
            return False
        shift = end - max(a + b for a, b in zip(starts, self._duration[first:], strict=True))
        self._start[first:] = [start + shift for start in starts]
        return True

    def _forget(self, first: int) -> None:
        """Leave out the events from one on."""
        for column in (*self._codes.values(), self._source, self._pid, self._rank, self._step):
            del column[first:]
        del self._start[first:], self._duration[first:], self._on_device[first:]

    def finish(self, problems: Problems) -> Events:
        sources = np.array(self._source, np.int64)
        start, duration = np.array(self._start) / 1e6, np.array(self._duration) / 1e6
        nodes = [node for node, _ in self._sources]
        known = list(dict.fromkeys(nodes))
        node_codes = np.array([known.index(node) for node in nodes], np.int32)
        table: dict[str, Any] = {
            "node": pd.Categorical.from_codes(node_codes[sources], known),
            "pid": np.array(self._pid, np.int64),
            "rank": np.array(self._rank, np.int64),
        }
        for key, codes in self._codes.items():
            words = self._words[key].texts
            table[key] = pd.Categorical.from_codes(np.array(codes, np.int32), words)
        table |= {"step": np.array(self._step, np.int64), "start": start, "duration": duration}
        frame = pd.DataFrame(table)[list(COLUMNS)]
        frame["source"], frame["on_device"] = sources, np.array(self._on_device, bool)
        frame = frame.sort_values("start", kind="stable", ignore_index=True)
        twice = frame.duplicated(["source", "on_device", "phase", "name", "start", "duration"])
        if twice.any():
            problems.note(f"{int(twice.sum()):,} events were recorded twice; one of each is used")
            frame = frame[~twice].reset_index(drop=True)
        by_source = ranks(frame, list(self._sources))
        frame["rank"] = frame["rank"].where(frame["rank"] >= 0, by_source[frame["source"]])
        frame = within_steps(frame)
        host = frame[~frame["on_device"]].reset_index(drop=True)
        device = frame[frame["on_device"]].reset_index(drop=True)
        operators = [
            (int(by_source[source]), device, name, int(calls), time, time)
            for (source, device, name), (calls, time) in self._operators.items()
        ]
        return Events(
            table=host[list(COLUMNS)],
            on_device=device[list(COLUMNS)],
            operators=pd.DataFrame(operators, columns=list(OPERATORS)),
            loader=self._loader,
        )


def _origin(file: str) -> tuple[float | None, str, int]:
    """When an event file ends (µs), its host and its process, from its name."""
    found = _FILE.match(file)
    if not found:
        return None, "algo-1", 0
    source = _SOURCE.match(found["source"])
    end = float(found["end"]) if found["end"] else None
    node = printable(source["node"] if source else found["source"])
    return end, node, int(source["pid"]) if source else 0

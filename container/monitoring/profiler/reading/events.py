"""Framework events as SageMaker and smdebug write them: Chrome traces by minute and process.

In `<end µs>_<pid>-<host>_pythontimeline.json` the `args.start_time_since_epoch_in_micros` of the
first entry is what every `ts` counts from, entries named `process_name` name the phases, and
complete events (`"ph":"X"`, microseconds) are what happened.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from container.monitoring.profiler.phases import CPU, GPU, WITHIN_STEP, normalise
from container.monitoring.profiler.reading.text import (
    LATEST,
    RecordingWarnings,
    Words,
    natural,
    printable,
)

_FILE = re.compile(r"^((?P<end>\d{1,17})_)?(?P<source>[^_]+)_[^_]*(_timeline)?\.json(\.tmp)?$")
_SOURCE = re.compile(r"^(?P<pid>\d{1,18})-(?P<node>.+)$")
_ABSOLUTE = 1e14
"""Microseconds since 1970 (in March 1973): a `ts` beyond it counts from 1970 itself."""
_LARGEST = 2**62
NO_STEP = -1
COLUMNS = ("node", "pid", "rank", "phase", "name", "mode", "step", "start", "duration")
OPERATORS = ("rank", "device", "name", "calls", "self_time", "total_time")

_NEXT = re.compile(r"[\s,\[\]]*")
ATTEMPTS = 1000
"""How often reading resumes after something that is not an event, before it gives up."""
SLACK = 1e-6
"""Seconds: the files' resolution."""


@dataclass(frozen=True)
class Events:
    """The content of the event files.

    Attributes:
        table: node, pid, rank, phase, name, mode, step (-1: none), start (unix s), duration (s);
            by start.
        on_device: the same for what a GPU did of a phase.
        operators: rank, device, name, calls, self_time, total_time (s), summed over the events of
            operators, which tell no self time: it is the total.
        loader: what the loader recorded of itself: num_workers, pin_memory.
    """

    table: pd.DataFrame
    on_device: pd.DataFrame
    operators: pd.DataFrame
    loader: dict[str, Any]


def read_events(
    paths: Sequence[Path], name: Callable[[Path], str], problems: RecordingWarnings
) -> Events:
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
    """Columns of events, with texts as codes."""

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
        """Add a file's events; returns what was wrong with them, if anything."""
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

    def finish(self, problems: RecordingWarnings) -> Events:
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
    """An event file's end (µs), host and process, from its name."""
    found = _FILE.match(file)
    if not found:
        return None, "algo-1", 0
    source = _SOURCE.match(found["source"])
    end = float(found["end"]) if found["end"] else None
    node = printable(source["node"] if source else found["source"])
    return end, node, int(source["pid"]) if source else 0


def read_trace(text: str) -> tuple[list[dict[str, Any]], str | None]:
    """The events of a trace, and what was wrong with it, if anything.

    A trace is an array, or an object with one under `traceEvents`.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _salvage(text)
    if isinstance(found, dict):
        found = found.get("traceEvents")
    if not isinstance(found, list):
        return [], "holds no events"
    events = [event for event in found if isinstance(event, dict)]
    lost = len(found) - len(events)
    return events, f"{lost:,} of its entries are no events and were left out" if lost else None


def _salvage(text: str) -> tuple[list[dict[str, Any]], str | None]:
    decoder = json.JSONDecoder()
    events: list[dict[str, Any]] = []
    position, attempts = 0, 0
    while attempts < ATTEMPTS:
        position = _skip(text, position)
        if position >= len(text):
            break
        try:
            event, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            attempts += 1
            position = text.find("{", position + 1)
            if position < 0:
                break
            continue
        if isinstance(event, dict) and "ph" in event:
            events.append(event)
    if not events:
        return [], "holds no events" if text.strip() else "is empty"
    if attempts == 0:
        return events, None  # smdebug's own files are without the closing bracket until they rotate
    return events, f"cut short or damaged; the {len(events):,} events that could be read are used"


def _skip(text: str, position: int) -> int:
    found = _NEXT.match(text, position)
    return found.end() if found else position


def ranks(events: pd.DataFrame, sources: list[tuple[str, int]]) -> NDArray[np.int64]:
    """A rank for every process (node, pid): by node, then by when each first took a step.

    A process that began after another of its node had ended took that one's place: a job that was
    interrupted and resumed. Processes without steps are rank 0.

    Args:
        events: source (index into `sources`), phase, start, duration.
        sources: node and pid.

    Returns:
        (len(sources),) ranks.
    """
    found = np.zeros(len(sources), np.int64)
    steps = events[events["phase"] == "step"]
    ends = steps["start"] + steps["duration"]
    first, last = steps.groupby("source")["start"].min(), ends.groupby(steps["source"]).max()
    places: dict[str, list[list[int]]] = {}
    until: dict[str, list[float]] = {}
    for source in first.sort_values(kind="stable").index:
        node = sources[source][0]
        slots, free = places.setdefault(node, []), until.setdefault(node, [])
        for slot, end in enumerate(free):
            if end <= first[source]:
                slots[slot].append(source)
                free[slot] = last[source]
                break
        else:
            slots.append([source])
            free.append(last[source])
    rank = 0
    for node in sorted(places, key=natural):
        for members in places[node]:
            found[members] = rank
            rank += 1
    return found


def within_steps(events: pd.DataFrame) -> pd.DataFrame:
    """The events with their mode and step completed from the step of their process around them.

    A wait for data that lies between two steps belongs to the later one: smdebug's steps begin with
    the forward pass. What lies in no step has the mode `other`; so has the work of loader workers.

    Args:
        events: as `Events.table`, by start, with a column source (one number a process).
    """
    mode = events["mode"].astype(object).to_numpy(copy=True)
    step = events["step"].to_numpy(copy=True)
    phase = events["phase"].astype(object).to_numpy()
    for rows in events.groupby("source").indices.values():
        mine = phase[rows] == "step"
        steps = rows[mine]
        open_ = rows[~mine & (phase[rows] != "worker") & ((mode[rows] == "") | (step[rows] < 0))]
        if not steps.size or not open_.size:
            continue
        starts = events["start"].to_numpy()[steps]
        ends = starts + events["duration"].to_numpy()[steps]
        begin = events["start"].to_numpy()[open_]
        finish = begin + events["duration"].to_numpy()[open_]
        before = np.searchsorted(starts, begin + SLACK, side="right") - 1
        inside = (before >= 0) & (finish <= ends[np.maximum(before, 0)] + 2 * SLACK)
        ahead = ~inside & (phase[open_] == "data") & (before + 1 < steps.size)
        holder = np.where(ahead, before + 1, before)
        chosen = inside | ahead
        at, held = open_[chosen], steps[holder[chosen]]
        mode[at] = np.where(mode[at] == "", mode[held], mode[at])
        step[at] = np.where(step[at] < 0, step[held], step[at])
    known = np.isin(mode.astype(str), ("train", "eval"))
    return events.assign(mode=pd.Categorical(np.where(known, mode, "other")), step=step)

"""System metrics as SageMaker writes them: a JSON object a line, a file a minute and host.

`{"Type":"cpu","Name":"cpu0","Dimension":"CPUUtilization","Value":4.7,"NodeId":"algo-1",
"Timestamp":1591160699.45}`; utilisations are percentages.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from container.monitoring.profiler.reading.text import LATEST, RecordingWarnings, Words

_TEXTS = {"NodeId": "node", "Type": "kind", "Name": "name", "Dimension": "dimension"}
_KINDS = {"i/o": "disk"}
BACKWARDS = 1.0
"""Seconds: threads write slightly out of order; a clock that was set goes back further."""
GAP = 60.0
"""Seconds without a sample that are worth mentioning: SageMaker's longest interval."""


def read_system(
    paths: Sequence[Path], name: Callable[[Path], str], problems: RecordingWarnings
) -> pd.DataFrame:
    """Every sample of the files: time (unix s), node, kind, name, dimension, value; by time.

    Args:
        paths: files, oldest first.
        name: how a file is named in a problem.
    """
    table = _Samples()
    for path in paths:
        try:
            lines = path.read_bytes()
        except OSError as error:
            problems.note(f"could not be read ({error.strerror})", name(path))
            continue
        bad = table.take(lines)
        if bad:
            problems.note(bad, name(path))
    return table.finish(problems)


class _Samples:
    def __init__(self) -> None:
        self._numbers: dict[str, list[NDArray[np.float64]]] = {"Timestamp": [], "Value": []}
        self._codes: dict[str, list[NDArray[np.int32]]] = {key: [] for key in _TEXTS}
        self._words = {key: Words() for key in _TEXTS}

    def take(self, text: bytes) -> str | None:
        """Add a file's samples; returns what was wrong with it, if anything."""
        if not text.strip():
            return "is empty"
        try:
            rows = json.loads(b"[" + text.strip().replace(b"\n", b",") + b"]")
            self._add(rows)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return self._take_lines(text)
        return None

    def _take_lines(self, text: bytes) -> str | None:
        rows, bad = [], 0
        lines = [line for line in text.splitlines() if line.strip()]
        cut = False
        for position, line in enumerate(lines):
            row = _sample(line)
            if row is None:
                bad += 1
                cut = position == len(lines) - 1 and not text.endswith(b"\n")
            else:
                rows.append(row)
        if rows:
            self._add(rows)
        if not rows:
            return "holds no system metrics"
        if not bad:
            return None
        if cut and bad == 1:
            return "cut short; its last line was left out"
        return f"{bad:,} of {len(lines):,} lines are not system metrics and were left out"

    def _add(self, rows: list[dict[str, Any]]) -> None:
        numbers = {key: [row[key] for row in rows] for key in self._numbers}
        texts = {key: [row[key] for row in rows] for key in _TEXTS}
        for key, found in (numbers | texts).items():
            wanted = {str} if key in _TEXTS else {int, float}
            if not set(map(type, found)) <= wanted:
                raise TypeError(key)
        arrays = {key: np.array(found, np.float64) for key, found in numbers.items()}
        if not all(np.isfinite(found).all() for found in arrays.values()):
            raise ValueError("not finite")
        times = arrays["Timestamp"]
        if ((times <= 0) | (times > LATEST)).any():
            raise ValueError("no time")
        if "" in texts["NodeId"]:
            raise ValueError("no node")
        for key, array in arrays.items():
            self._numbers[key].append(array)
        texts["Type"] = [_KINDS.get(kind.lower(), kind.lower()) for kind in texts["Type"]]
        for key, found in texts.items():
            words = self._words[key]
            self._codes[key].append(np.array([words[word] for word in found], np.int32))

    def finish(self, problems: RecordingWarnings) -> pd.DataFrame:
        if not self._numbers["Value"]:
            return _empty()
        time = np.concatenate(self._numbers["Timestamp"])
        table: dict[str, Any] = {"time": time}
        for key, column in _TEXTS.items():
            table[column] = pd.Categorical.from_codes(
                np.concatenate(self._codes[key]), self._words[key].texts
            )
        table["value"] = np.concatenate(self._numbers["Value"])
        frame = pd.DataFrame(table)
        _clock(frame, problems)
        frame = frame.sort_values("time", kind="stable", ignore_index=True)
        twice = frame.duplicated(["time", "node", "name", "dimension"])
        if twice.any():
            problems.note(f"{int(twice.sum()):,} samples were recorded twice; one of each is used")
            frame = frame[~twice].reset_index(drop=True)
        return frame


def _sample(line: bytes) -> dict[str, Any] | None:
    """One line's sample, with numbers written as text made numbers; None if it is none."""
    try:
        row = json.loads(line)
        found: dict[str, Any] = {key: row.get(key) or "" for key in _TEXTS}
        if not all(isinstance(text, str) for text in found.values()):
            return None
        if not found["NodeId"] or not (found["Dimension"] or found["Name"]):
            return None
        for key in ("Timestamp", "Value"):
            if isinstance(row[key], bool):
                return None
            found[key] = float(row[key])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    if not (np.isfinite(found["Value"]) and np.isfinite(found["Timestamp"])):
        return None
    return found if 0 < found["Timestamp"] <= LATEST else None


def _clock(frame: pd.DataFrame, problems: RecordingWarnings) -> None:
    """Note where a node's clock went back, or samples are missing for longer than any interval."""
    for node, samples in frame.groupby("node", observed=True)["time"]:
        times = samples.to_numpy()
        steps = np.diff(times)
        back = np.flatnonzero(steps < -BACKWARDS)
        if back.size:
            problems.note(
                f"the clock went back by {-steps[back[0]]:,.1f} s at {_when(times[back[0]])}"
                + (f" and {back.size - 1:,} more times" if back.size > 1 else "")
                + "; its samples are used in order of time",
                str(node),
            )
        ordered = np.sort(times)
        gaps = np.diff(ordered)
        usual = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0.0
        missing = np.flatnonzero(gaps > max(2 * GAP, 10 * usual))
        if missing.size:
            at = missing[0]
            problems.note(
                f"no system metrics for {gaps[at]:,.0f} s after {_when(ordered[at])}"
                + (f", and {missing.size - 1:,} more gaps" if missing.size > 1 else ""),
                str(node),
            )


def _when(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _empty() -> pd.DataFrame:
    empty: dict[str, Any] = {name: pd.Categorical([], []) for name in _TEXTS.values()}
    none = np.empty(0, np.float64)
    return pd.DataFrame({"time": none, **empty, "value": none})

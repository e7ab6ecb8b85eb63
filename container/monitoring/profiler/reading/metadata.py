"""Reads what berth records in addition to the profile: job facts, curves, epochs and rule
statuses."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from container.monitoring.profiler.reading.events import OPERATORS
from container.monitoring.profiler.reading.text import (
    LATEST,
    RecordingWarnings,
    printable,
    writable,
)

CURVES = ("step", "epoch", "time", "loss", "learning_rate", "gradient_norm")

_RANK = re.compile(r"-rank(\d+)-operators\.json$")


def read_jobs(
    paths: Sequence[Path], name: Callable[[Path], str], problems: RecordingWarnings
) -> dict[str, Any]:
    """The job's facts: the first file's, completed by what further hosts know."""
    facts: dict[str, Any] = {}
    for path in paths:
        found = _load(path, name, problems)
        if isinstance(found, dict):
            facts = {key: value for key, value in found.items() if value is not None} | facts
        elif found is not None:
            problems.note("expected an object with the job's facts", name(path))
    return facts


def read_lines(
    path: Path | None,
    name: Callable[[Path], str],
    problems: RecordingWarnings,
    columns: Sequence[str] = (),
) -> pd.DataFrame:
    """A table of numbers from a JSON object a line, `columns` first; what is no number is NaN."""
    if path is None:
        return pd.DataFrame(columns=list(columns), dtype=float)
    rows: list[dict[str, float]] = []
    bad = 0
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        problems.note(f"could not be read ({error.strerror})", name(path))
        lines = []
    for line in lines:
        if line.strip():
            row = _numbers(line)
            bad += row is None
            rows += [row] if row is not None else []
    if bad:
        problems.note(
            f"{bad:,} of {len(lines):,} lines could not be read and were left out", name(path)
        )
    found = pd.DataFrame(rows, dtype=float)
    further = [column for column in found.columns if column not in columns]
    return found.reindex(columns=[*columns, *further])


def read_rules(
    path: Path | None, name: Callable[[Path], str], problems: RecordingWarnings
) -> list[dict[str, Any]]:
    """The debugger's statuses; entries without a rule's name are left out."""
    found = _load(path, name, problems) if path is not None else None
    if found is None:
        return []
    if not isinstance(found, list):
        problems.note("expected a list of rule statuses", name(path) if path else "")
        return []
    return [
        entry for entry in found if isinstance(entry, dict) and "RuleConfigurationName" in entry
    ]


def _load(path: Path, name: Callable[[Path], str], problems: RecordingWarnings) -> Any:
    try:
        return writable(json.loads(path.read_text(encoding="utf-8", errors="replace")))
    except OSError as error:
        problems.note(f"could not be read ({error.strerror})", name(path))
    except (ValueError, RecursionError):
        problems.note("is not JSON; it may be cut short", name(path))
    return None


def _numbers(line: str) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    return {printable(key): _number(value) for key, value in row.items()}


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.nan
    return math.nan


def read_operators(
    paths: Sequence[Path], name: Callable[[Path], str], problems: RecordingWarnings
) -> pd.DataFrame:
    """The tables of all ranks: rank, device (cpu, cuda), name, calls, self_time, total_time (s).

    Args:
        paths: `<host>-rank<R>-operators.json`, each a list of objects, or an object with one under
            `operators`.
        name: how a file is named in a problem.
    """
    rows: list[tuple[Any, ...]] = []
    for path in paths:
        found = _RANK.search(path.name)
        rank = int(found[1]) if found else 0
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            table = table["operators"] if isinstance(table, dict) else table
            mine = [_row(rank, entry) for entry in table]
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            problems.note("holds no table of operators", name(path))
            continue
        rows += [row for row in mine if row is not None]
        if None in mine:
            problems.note("operators without a name or a time were left out", name(path))
    return pd.DataFrame(rows, columns=list(OPERATORS))


def _row(rank: int, entry: Any) -> tuple[Any, ...] | None:
    try:
        device, name = printable(str(entry.get("device", "cpu")).lower()), entry["name"]
        times = float(entry["self_time"]), float(entry["total_time"])
        calls = int(entry.get("calls", 1))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if not all(0 <= time <= LATEST for time in times):
        return None
    return (rank, device, printable(str(name)), calls, *times)

"""Operator tables of torch.profiler, as berth writes them on the steps it was asked for."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from container.monitoring.profiler.reading.events import OPERATORS
from container.monitoring.profiler.reading.problems import Problems
from container.monitoring.profiler.reading.words import LATEST, printable

_RANK = re.compile(r"-rank(\d+)-operators\.json$")


def read_operators(
    paths: Sequence[Path], name: Callable[[Path], str], problems: Problems
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

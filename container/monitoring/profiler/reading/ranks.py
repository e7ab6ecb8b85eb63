"""Which rank a process was, where its events do not say so."""

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray


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


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key by which `algo-2` comes before `algo-10`."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", text)]

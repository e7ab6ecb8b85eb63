"""Which step an event belongs to, where it does not say so itself."""

import numpy as np
import pandas as pd

SLACK = 1e-6
"""Seconds: the files' resolution."""


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

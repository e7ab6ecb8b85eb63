"""Whether a container's first process handles a signal."""

from typing import Any

COLUMNS = "pid,caught,blocked,ignored"
"""Columns of `ps`: the signals a process catches, waits for or ignores (ps(1))."""


def handles_signal(table: Any, pid: int, number: int) -> bool:
    """Whether a process catches, waits for or ignores a signal by its own choice.

    The kernel drops a signal sent to a container's first process until it has installed a handler
    (pid_namespaces(7)), so a SIGTERM sent too early is lost and only SIGKILL ends it.

    Args:
        table: the engine's list of the container's processes (`docker top`) with `COLUMNS`. It
            comes from the engine because the number means another process here, or none, when the
            engine is on another machine, in a virtual machine, or outside this container.
        pid: the process, as the engine sees it.
        number: the signal's.

    Returns:
        True also where the table does not show it.
    """
    try:
        rows = [dict(zip(table["Titles"], row, strict=True)) for row in table["Processes"]]
        (masks,) = (row for row in rows if int(row.pop("PID")) == pid)
        # ps marks with "<" what it has cut off at the left, where the high signals are.
        return any(int(mask.lstrip("<"), 16) >> (number - 1) & 1 for mask in masks.values())
    except (KeyError, TypeError, ValueError, AttributeError):
        return True

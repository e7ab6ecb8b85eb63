"""Whether a container's first process handles a signal.

The kernel drops a signal sent to a container's first process until it has installed a handler
(pid_namespaces(7)), so a SIGTERM sent too early is lost and only SIGKILL ends it.

The engine is asked, and never this machine: the number of the process means another process here,
or none, when the engine is on another machine, in a virtual machine, or outside this container.
"""

from typing import Any

COLUMNS = "pid,caught,blocked,ignored"
"""Columns of `ps`: the signals a process catches, waits for or ignores (ps(1))."""


def handles_signal(table: Any, pid: int, number: int) -> bool:
    """Whether a process catches, waits for or ignores a signal by its own choice.

    Args:
        table: the engine's list of the container's processes (`docker top`) with `COLUMNS`.
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


def status_handles_signal(status: str, number: int) -> bool:
    """The same by the process's `/proc/1/status`, as a command in the container shows it.

    For engines whose `ps` has no such columns, as those in virtual machines with BusyBox.

    Args:
        status: the file's text.
        number: the signal's.

    Returns:
        True also where the text does not show it.
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        masks = [int(fields[name], 16) for name in ("SigCgt", "SigBlk", "SigIgn")]
    except (KeyError, ValueError):
        return True
    return any(mask >> (number - 1) & 1 for mask in masks)

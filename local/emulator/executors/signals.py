"""Whether a container's first process handles a signal.

The kernel discards signals to a container's first process until it has installed a handler
(pid_namespaces(7)), so that a SIGTERM sent too early is lost and only SIGKILL ends the process.

The engine must be queried for this: if it is on another machine, in a virtual machine or outside
this container, a process has another pid here, or none.
"""

from typing import Any

COLUMNS = "pid,caught,blocked,ignored"
"""Columns of `ps`: the signals that a process catches, blocks or ignores (ps(1))."""


def handles_signal(table: Any, pid: int, number: int) -> bool:
    """Whether a process catches, blocks or ignores a signal.

    Args:
        table: the output of `docker top` with `COLUMNS`.
        pid: the process id on the engine's machine.
        number: the signal's number.

    Returns:
        True also if the table does not show it.
    """
    try:
        rows = [dict(zip(table["Titles"], row, strict=True)) for row in table["Processes"]]
        (masks,) = (row for row in rows if int(row.pop("PID")) == pid)
        # ps marks a mask with "<" if it has cut off the high signals at the left.
        return any(int(mask.lstrip("<"), 16) >> (number - 1) & 1 for mask in masks.values())
    except (KeyError, TypeError, ValueError, AttributeError):
        return True


def status_handles_signal(status: str, number: int) -> bool:
    """The same from `/proc/1/status` in the container.

    For engines whose `ps` does not have the columns, such as BusyBox in virtual machines.

    Args:
        status: the file's text.
        number: the signal's number.

    Returns:
        True also if the text does not show it.
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        masks = [int(fields[name], 16) for name in ("SigCgt", "SigBlk", "SigIgn")]
    except (KeyError, ValueError):
        return True
    return any(mask >> (number - 1) & 1 for mask in masks)

"""Whether a process would notice a signal sent to it."""

from pathlib import Path


def heeds(pid: int, number: int) -> bool:
    """Whether the process catches, waits for or ignores a signal by its own choice.

    The kernel drops a signal sent to a container's first process until it has installed a handler
    (pid_namespaces(7)), so a SIGTERM sent too early is lost and only SIGKILL ends it.

    Args:
        pid: the process, as this machine sees it.
        number: the signal's.

    Returns:
        True also where it cannot be known: no such process here, or no /proc.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    masks = (int(fields[name], 16) for name in ("SigCgt", "SigBlk", "SigIgn") if name in fields)
    bit = 1 << (number - 1)
    return any(mask & bit for mask in masks)

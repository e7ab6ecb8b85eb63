"""Runs `python -m container` and similar commands in a fork of a process that has imported PyTorch.

Python imports this file at startup if its folder is on PYTHONPATH. If `PRELOADED` is the socket of
a `server.py`, and the command line is one that it supports, the server forks a child with this
process's arguments, environment, working directory and standard streams. This process forwards
signals to the child and exits with its status; if this process is killed, the server kills the
child. Otherwise Python continues as if this file did not exist.
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import NoReturn

SOCKET = "PRELOADED"
"""The environment variable that names the server's socket."""
MODULES = ("container", "container.train", "torch.distributed.run")
"""Modules that may be run with `-m`."""
SCRIPTS = ("train", "torchrun")
"""Supported commands, installed next to the interpreter."""
AT_IMPORT = ("OMP_NUM_", "MKL_", "KMP_", "OPENBLAS_", "TORCH_", "LD_", "PYTHONHASHSEED")
"""Prefixes of variables that are read while modules are imported, and have an effect with one
thread."""
READ_LATER = ("TORCH_NCCL_",)
"""Exceptions that are read when a process group is created; torchrun sets one for its ranks."""
RELAYED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)


def command_line(words: list[str]) -> dict[str, object] | None:
    """The module or script that a command line runs, or None if the server does not support it."""
    flags, rest = [], words[1:]
    while rest and rest[0] in ("-P", "-u"):
        flags.append(rest.pop(0))
    if len(rest) > 1 and rest[0] == "-m" and rest[1] in MODULES:
        target = {"module": rest[1], "arguments": rest[2:]}
    elif rest and Path(rest[0]).name in SCRIPTS and Path(rest[0]).parent == _commands():
        target = {"script": rest[0], "arguments": rest[1:]}
    else:
        return None
    return target | {"safe_path": "-P" in flags, "unbuffered": "-u" in flags}


def _commands() -> Path:
    return Path(sys.executable).parent


def read_at_import(environment: dict[str, str]) -> dict[str, str]:
    """The variables for which a fork has the server's values."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(AT_IMPORT) and not name.startswith(READ_LATER)
    }


def hand_over(address: str, target: dict[str, object]) -> None:
    """Run the target in a fork and exit with its status; return if no server accepts it."""
    request = target | {"environment": dict(os.environ), "folder": str(Path.cwd())}
    data = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
            socket.send_fds(server, [struct.pack("!I", len(data))], [0, 1, 2])
            server.sendall(data)
            (pid,) = struct.unpack("!i", server.recv(4, socket.MSG_WAITALL))
        except (OSError, struct.error):
            return
        if not pid:
            return
        for number in RELAYED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: _relay(pid, number))
        for stream in (0, 1, 2):
            os.close(stream)  # the child has copies
        (status,) = struct.unpack("!i", server.recv(4, socket.MSG_WAITALL))
    _end(os.waitstatus_to_exitcode(status))


def _relay(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end(code: int) -> NoReturn:
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def _start() -> None:
    address = os.environ.get(SOCKET)
    target = command_line(sys.orig_argv) if address else None
    if address and target:
        hand_over(address, target)
    # Another folder on PYTHONPATH may have a file of this name.
    here = str(Path(__file__).parent)
    sys.path[:] = [each for each in sys.path if each != here]
    del sys.modules[__name__]
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(__name__)


if __name__ == "sitecustomize":
    _start()

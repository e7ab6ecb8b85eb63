"""Put on PYTHONPATH: `python -m container` and the like run in a fork of a process that has
imported PyTorch already.

Python imports this file as it starts. Where `PRELOADED` names the socket of a `server.py`, and the
command line is one that it serves, the server forks a child for it, with this process's arguments,
environment, folder and standard streams. This process stays as the child's stand-in: signals that
it gets go to the child, its end is the child's, and when it is killed, so is the child. In any
other case Python goes on as if this file were not there.
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
"""What `-m` may name."""
SCRIPTS = ("train", "torchrun")
"""Installed commands, next to the interpreter."""
AT_IMPORT = ("OMP_NUM_", "MKL_", "KMP_", "OPENBLAS_", "TORCH_", "LD_", "PYTHONHASHSEED")
"""The first letters of variables that are read while modules are imported, and change anything
where there is one thread."""
READ_LATER = ("TORCH_NCCL_",)
"""Those among them that are read when a process group is made; torchrun sets one for its ranks."""
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
    """What a command line runs, or None when it is nothing to hand over."""
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
    """The variables of which a fork has the server's values."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(AT_IMPORT) and not name.startswith(READ_LATER)
    }


def hand_over(address: str, target: dict[str, object]) -> None:
    """Run it in a fork and end as it ends; come back if there is no server that would."""
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
            os.close(stream)  # they are the child's now
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

"""A fork server: it imports a training job's modules once and forks itself for every job.

    python -P tests/preloaded/server.py OWNER

It prints the path of its socket, goes to the background, and ends with the process whose id is
OWNER. `sitecustomize.py` beside it is its client. It has one thread and never runs a job itself, so
a fork starts with the imported modules and no other state.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
IMPORTED = (
    "container.train",
    "container.results.charts",
    "sagemaker_training.environment",
    "torch.distributed.run",
)
"""None of them may start a thread when imported, as OpenVINO and pandas do."""


def _client() -> ModuleType:
    """Load `sitecustomize.py` from this folder; Debian's Python has another module of this name."""
    spec = spec_from_file_location("preloaded_client", HERE / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


client = _client()


@dataclass
class Running:
    """A child process, and the connection to its client."""

    pid: int
    ended: int
    """A pidfd: readable when the child has ended."""
    connection: socket.socket


class Server:
    """Forks children; in a child, `serve` returns the request to run."""

    def __init__(self, address: Path, owner: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen(64)
        self._owner = os.pidfd_open(owner)
        self._imported = client.read_at_import(dict(os.environ))

    def serve(self) -> dict[str, Any] | None:
        """Return the request in a forked child, or None in the server once its owner has ended."""
        with selectors.DefaultSelector() as events:
            events.register(self._listener, selectors.EVENT_READ)
            events.register(self._owner, selectors.EVENT_READ)
            while True:
                for key, _ in events.select():
                    if key.fileobj is self._owner:
                        return None
                    if key.fileobj is self._listener:
                        request = self._accept(events)
                        if request is not None:
                            return request
                    elif isinstance(key.data, Running):
                        self._end(key.data, events)

    def _accept(self, events: selectors.BaseSelector) -> dict[str, Any] | None:
        connection, _ = self._listener.accept()
        streams: list[int] = []
        try:
            connection.settimeout(10)
            size, streams, _, _ = socket.recv_fds(connection, 4, 3)
            data = connection.recv(struct.unpack("!I", size)[0], socket.MSG_WAITALL)
            request = json.loads(data)
            if client.read_at_import(request["environment"]) != self._imported:
                connection.sendall(struct.pack("!i", 0))
                raise ValueError("it would have imported something else")
            pid = os.fork()
            if pid == 0:
                self._become(streams, events, connection)
                return dict(request)
            connection.sendall(struct.pack("!i", pid))
        except (OSError, ValueError, struct.error):
            connection.close()
            return None
        finally:
            for stream in streams:
                os.close(stream)
        running = Running(pid, os.pidfd_open(pid), connection)
        events.register(running.ended, selectors.EVENT_READ, running)
        events.register(connection, selectors.EVENT_READ, running)
        return None

    def _become(
        self, streams: list[int], events: selectors.BaseSelector, connection: socket.socket
    ) -> None:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for key in list(events.get_map().values()):
            if isinstance(key.data, Running):
                key.data.connection.close()
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
        connection.close()
        self._listener.close()

    def _end(self, running: Running, events: selectors.BaseSelector) -> None:
        """Send the child's exit status to its client; if the client ended first, kill the child."""
        if running.ended not in events.get_map():
            return  # both ended at once, and one event was handled
        events.unregister(running.ended)
        events.unregister(running.connection)
        group = running.pid
        done, status = os.waitpid(running.pid, os.WNOHANG)
        if not done:
            os.killpg(group, signal.SIGKILL)
            _, status = os.waitpid(running.pid, 0)
        os.close(running.ended)
        with running.connection as connection:
            try:
                connection.sendall(struct.pack("!i", status))
            except OSError:
                return  # the client was killed


def prepare(request: dict[str, Any]) -> None:
    """Give a fork the state of a newly started interpreter."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    time.tzset()
    unbuffered = request["unbuffered"] or bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, stream(number, unbuffered))
        setattr(sys, f"__{name}__", getattr(sys, name))
    random.seed()
    sys.modules["numpy"].random.seed()
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    first = [] if request["safe_path"] else [request["folder"]]
    if "script" in request:
        first = [] if request["safe_path"] else [str(Path(request["script"]).parent)]
    sys.path[:0] = [*first, *(each for each in added if each and each != str(HERE))]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")


def stream(number: int, unbuffered: bool) -> TextIOWrapper:
    """Open a standard stream as Python does at startup."""
    if number == 0:
        return open(number, closefd=False)
    raw = open(number, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
    return TextIOWrapper(
        raw,
        encoding="utf-8",
        errors="backslashreplace" if number == 2 else "strict",
        write_through=unbuffered,
        line_buffering=number == 2 or os.isatty(number),
    )


def run(request: dict[str, Any]) -> None:
    """Run the module or script, as `python -m` or `python script` would."""
    sys.argv = ["-m", *request["arguments"]]
    if "script" in request:
        sys.argv[0] = request["script"]
        runpy.run_path(request["script"], run_name="__main__")
        return
    # runpy would run the module again anyway, and warn that it is already imported.
    name = request["module"]
    sys.modules.pop(name if name != "container" else "container.__main__", None)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def main(owner: str) -> dict[str, Any] | None:
    for module in IMPORTED:
        importlib.import_module(module)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        sys.exit(f"cannot fork: the imports left {threads} threads")
    folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
    server = Server(folder / "socket", int(owner))
    print(folder / "socket", flush=True)
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    gc.collect()
    gc.freeze()
    request = server.serve()
    if request is None:
        shutil.rmtree(folder, ignore_errors=True)
    return request


if __name__ == "__main__":
    if (asked := main(sys.argv[1])) is not None:
        prepare(asked)
        run(asked)

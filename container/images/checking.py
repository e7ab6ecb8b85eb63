"""Decoding that is only to find out whether a file can be, in processes whose crash is seen.

    with Checker() as checker:
        checker.check(data, name)       # raises BadImage, also when a decoder crashes

A process takes a picture at a time, so that the one it dies of is known.

    python -m container.images.checking   # such a process: pictures come in, reasons go out
"""

import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from container.errors import BadImage
from container.images.budget import BUDGET, Turn
from container.images.decode import printable, use_picture

_HEAD = struct.Struct("<IQ")

_PIPE_LOST = (BrokenPipeError, ConnectionResetError)


class Checker:
    """Checks pictures for any number of threads, with as many processes as they keep busy."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        # Held by the process that decodes a large picture.
        self._turn = Turn()

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(  # noqa: D105
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._all:
            _end(process)

    def check(self, data: bytes, name: str) -> None:
        """Raise BadImage, one line, unless the picture in `data` can be decoded."""
        process = self._take()
        try:
            answer = _ask(process, data, name)
        except BaseException:
            _end(process)
            raise
        if answer is None:
            raise BadImage(f"{printable(name)}: its decoder crashed ({_cause(process)})")
        with self._lock:
            self._idle.append(process)
        if answer:
            raise BadImage(answer)

    def _take(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._idle:
                return self._idle.pop()
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._turn.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._all.append(process)
            return process


def _ask(process: "subprocess.Popen[bytes]", data: bytes, name: str) -> str | None:
    """The reason why not, or nothing; None when the process died of it."""
    head = printable(name).encode("utf-8", "replace")
    requests, answers = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    try:
        requests.write(_HEAD.pack(len(head), len(data)) + head)
        requests.write(data)
        requests.flush()
    except _PIPE_LOST:
        return None
    line = answers.readline()
    return line[:-1].decode() if line.endswith(b"\n") else None


def _cause(process: "subprocess.Popen[bytes]") -> str:
    status = process.wait()
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except _PIPE_LOST:
                continue  # Something was still to be flushed.


def main() -> None:
    """Answer pictures from standard input with a line each, empty for a good one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    BUDGET.take_turns(Path(sys.argv[1]))
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        name_size, size = _HEAD.unpack(head)
        name, data = source.read(name_size).decode(), source.read(size)
        if len(data) < size:
            return
        reason = ""
        try:
            # The whole file is decompressed at any scale, so damage shows at the smallest too.
            use_picture(data, lambda _: None, name=name, at_least=(1, 1))
        except BadImage as error:
            reason = str(error)
        answers.write(reason.encode("utf-8", "replace") + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()

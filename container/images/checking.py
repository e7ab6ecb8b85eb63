"""Checks whether images can be decoded, in subprocesses, so that a decoder may crash.

    with Checker() as checker:
        checker.check(data, name)       # raises BadImage, also when a decoder crashes

A subprocess decodes one image at a time, so that the image that crashes it is known.

    python -m container.images.checking   # such a subprocess: images in, reasons out
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
from container.images.budget import BUDGET, LockFile
from container.images.decode import printable, use_image

_HEAD = struct.Struct("<IQ")

_PIPE_LOST = (BrokenPipeError, ConnectionResetError)


class Checker:
    """Checks images from any number of threads, with one subprocess per busy thread."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        # Locked by the subprocess that decodes a large image.
        self._lock_file = LockFile()

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
        """Raise BadImage unless the image in `data` can be decoded."""
        process = self._take()
        try:
            reason = _check(process, data, name)
        except BaseException:
            _end(process)
            raise
        if reason is None:
            raise BadImage(f"{printable(name)}: its decoder crashed ({_cause(process)})")
        with self._lock:
            self._idle.append(process)
        if reason:
            raise BadImage(reason)

    def _take(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._idle:
                return self._idle.pop()
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._lock_file.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._all.append(process)
            return process


def _check(process: "subprocess.Popen[bytes]", data: bytes, name: str) -> str | None:
    """Why an image cannot be decoded, or an empty string; None if the subprocess died."""
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
                continue  # Unflushed bytes are dropped.


def main() -> None:
    """Read images from standard input and write a line for each, empty for a good one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    BUDGET.use_lock_file(Path(sys.argv[1]))
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        name_size, size = _HEAD.unpack(head)
        name, data = source.read(name_size).decode(), source.read(size)
        if len(data) < size:
            return
        reason = ""
        try:
            # The whole file is decompressed at any scale, so damage shows at the smallest too.
            use_image(data, lambda _: None, name=name, at_least=(1, 1))
        except BadImage as error:
            reason = str(error)
        answers.write(reason.encode("utf-8", "replace") + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()

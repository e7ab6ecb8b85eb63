"""A server's processes: started, waited for, measured and stopped."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from servers.contenders import Contender

READY_WAIT = 300.0
"""Seconds a server has until its first answer."""


@dataclass(frozen=True)
class Server:
    """One that runs: its first process, its port, and its seconds until the first answer."""

    contender: Contender
    process: "subprocess.Popen[bytes]"
    port: int
    ready: float

    def family(self) -> list[psutil.Process]:
        """The process and all it started."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def memory(self) -> float:
        """Proportional set size of all its processes, in MB."""
        total = 0.0
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 2**20

    def cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        total = 0.0
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@contextmanager
def running(contender: Contender) -> Iterator[Server]:
    """Start a server, wait for its first answer, and stop it and all it started at the end."""
    port, started = free_port(), time.perf_counter()
    process = contender.start(port)
    try:
        while not contender.answers(port):
            if process.poll() is not None or time.perf_counter() - started > READY_WAIT:
                sys.exit(f"{contender.name}: did not become ready")
            time.sleep(0.005)
        yield Server(contender, process, port, time.perf_counter() - started)
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process, and kill what it leaves behind."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(children, timeout=10)
    for child in left:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, timeout=10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port

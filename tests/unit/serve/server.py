"""Starts a `serve` process, sends it requests and stops it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

SERVE = (sys.executable, "-m", "serve")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Server:
    def __init__(self, base: Path, command: Sequence[str] = SERVE, **environ: str) -> None:
        self.port = free_port()
        self.log = base / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "SAGEMAKER_BASE_DIR": str(base),
                    "SAGEMAKER_BIND_TO_PORT": str(self.port),
                    "CUDA_VISIBLE_DEVICES": "",
                    **environ,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            yield connection
        finally:
            connection.close()

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        with self.connection() as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def invoke(self, body: bytes) -> tuple[int, str]:
        return self.ask("POST", "/invocations", body, **{"Content-Type": "image/png"})

    def wait_for(self, state: str) -> str:
        until = monotonic() + 120
        answer = ""
        while f'"{state}"' not in answer:
            assert monotonic() < until, f"{answer} {self.log.read_text()}"
            assert self.process.poll() is None, self.log.read_text()
            try:
                _, answer = self.ask("GET", "/ping")
            except OSError:
                sleep(0.02)
        return answer

    def worker(self) -> int:
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(base: Path, command: Sequence[str] = SERVE, **environ: str) -> Iterator[Server]:
    server = Server(base, command, **environ)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(40)
            finally:
                server.process.kill()

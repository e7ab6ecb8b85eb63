"""An engine whose DOCKER_HOST is an address, as in a virtual machine or a CI service.

Uses the tests' engine behind a relay; folders have spaces in their names.
"""

import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulator.executors import ContainerSpec
from local.emulator.executors.docker import DockerExecutor
from local.emulator.home import Home
from tests.requirements import missing
from tests.unit.local.emulator.executors.containers import StartedContainer, status_of

pytestmark = pytest.mark.docker

OWNER = (12345, 12346)
SOCKET = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


class Relay(socketserver.BaseRequestHandler):
    """Relays a TCP connection to the engine's socket and back."""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(SOCKET)
            back = threading.Thread(target=pump, args=(engine, self.request))
            back.start()
            pump(self.request, engine)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Forward data until the source ends, then close the target."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # the other side hung up
        pass


@pytest.fixture
def executor(
    tmp_path: Path, toy_image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerExecutor]:
    if not SOCKET.startswith("/"):
        missing(f"the engine is at {SOCKET}: it has an address already")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_address[1]}")
        home = Home.find(tmp_path / "Application Support" / "berth")
        executor = DockerExecutor(home, owner=OWNER)
        yield executor
        executor.reap()
        server.shutdown()


def test_a_server_is_reached_and_stopped_and_its_files_are_returned(
    executor: DockerExecutor, toy_uri: str, tmp_path: Path
) -> None:
    script = (
        "import runpy; open('/opt/ml/left behind', 'w').write('x')\n"
        "runpy.run_path('/opt/serve.py', run_name='__main__')"
    )
    server = StartedContainer(tmp_path / "Application Support" / "an endpoint")
    server.base.mkdir()
    spec = ContainerSpec(
        "server",
        toy_uri,
        (script,),
        server.base,
        entrypoint=("python3", "-u", "-c"),
        port=8080,
        read_only=("model",),
    )
    server.container = executor.start(spec, server.add_line)
    server.until_prints("toy: serving []")
    host, port = server.container.address
    assert host == "127.0.0.1"
    assert status_of(f"http://{host}:{port}/ping") == 200
    assert server.container.stop(30) == 0
    server.container.remove()
    assert (server.base / "left behind").stat().st_uid == OWNER[0]

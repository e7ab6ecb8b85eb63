import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import urllib3

from local.emulator.hosting.instances import Instance
from local.emulator.hosting.invocations import NoAnswer, TooSlow, chunks, invoke, open_stream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(*connections: Callable[[socket.socket], None]) -> Iterator[Any]:
    """Yield an instance whose container handles successive connections with these functions."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for handle in connections:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    handle(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    host, port = listener.getsockname()
    pool = urllib3.HTTPConnectionPool(host, port, retries=False)
    try:
        yield cast(Instance, SimpleNamespace(pool=pool, running=True))
    finally:
        pool.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answer(*answers: bytes, end: Callable[[], None] = lambda: None) -> Callable[..., None]:
    """Read a request before each response, then close."""

    def handle(connection: socket.socket) -> None:
        for one in answers:
            data = b""
            while not data.endswith(b"body"):
                data += connection.recv(65536)
            connection.sendall(one)
        end()

    return handle


def test_a_keep_alive_connection_closed_by_the_container_is_replaced() -> None:
    with server(answer(OK, b""), answer(OK)) as instance:
        assert invoke(instance, b"body", {}, 5).body == b"ok"
        assert invoke(instance, b"body", {}, 5).body == b"ok"


def test_a_connection_is_replaced_only_once_and_only_while_the_container_runs() -> None:
    with server(answer(b""), answer(b""), answer(OK)) as instance:
        with pytest.raises(NoAnswer):
            invoke(instance, b"body", {}, 5)
        assert invoke(instance, b"body", {}, 5).body == b"ok"
    with server(answer(b""), answer(OK)) as instance:
        instance.running = False
        with pytest.raises(NoAnswer):
            invoke(instance, b"body", {}, 5)
        instance.running = True
        assert invoke(instance, b"body", {}, 5).body == b"ok"


def test_a_truncated_response() -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"
    with server(answer(short)) as instance, pytest.raises(NoAnswer):
        invoke(instance, b"body", {}, 5)


def test_a_response_that_arrives_too_slowly() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)

    with server(drip) as instance, pytest.raises(TooSlow):
        invoke(instance, b"body", {}, 0.3)


def test_a_container_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pool = urllib3.HTTPConnectionPool("127.0.0.1", port, retries=False)
    with pytest.raises(NoAnswer):
        invoke(cast(Instance, SimpleNamespace(pool=pool, running=True)), b"body", {}, 5)


def test_parts_of_a_response_that_is_not_chunked_are_streamed() -> None:
    gate = threading.Event()

    def halves(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        gate.wait(60)
        connection.sendall(b"other")

    with server(halves) as instance:
        parts = chunks(open_stream(instance, b"body", {}, 5))
        assert next(parts) == b"first"
        gate.set()
        assert list(parts) == [b"other"]

"""A server on loopback in a thread that responds like SageMaker and its runtime."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RuntimeHandler(BaseHTTPRequestHandler):
    """The common part of these servers; each implements `do_POST`."""

    protocol_version = "HTTP/1.1"

    def read(self) -> tuple[str, bytes]:
        """Return the operation's name ("" for an invocation) and the body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        return (self.headers["X-Amz-Target"] or "").rpartition(".")[2], body

    def answer(self, status: int, value: object, error: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if error:
            self.send_header("x-amzn-errortype", error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def served(handler: type[RuntimeHandler], **state: Any) -> Iterator[Any]:
    """Serve a subclass of the handler with the attributes `state` and `url` inside the block."""
    own = type("Handler", (handler,), state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), own)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    own.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    yield own
    server.shutdown()
    thread.join()
    server.server_close()

"""A serving container in a page: echoes what it is sent.

`/invocations` answers with the request's body, type and custom attributes. A body that is one of
these words does more: `status 418` answers with that status, `sleep 2.5` waits so many seconds,
`die` ends the server, `who` answers with the model's JSON, `stream` answers in three chunks. A
model folder that holds `broken` makes it end at once with a message; one that holds `slow` makes
`/ping` answer 503 for two seconds; with `hopeless` it says for ever that it cannot serve.

With SAGEMAKER_MULTI_MODEL=true it loads models, at most as many as TOY_MODELS says (2), none that
holds `broken`, and those that hold `slow` in two seconds. `forget` makes it forget the model that
is invoked, and `who` answers with that one's JSON.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

model = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")) / "model"
started = time.monotonic()
several = os.environ.get("SAGEMAKER_MULTI_MODEL") == "true"
most = int(os.environ.get("TOY_MODELS", "2"))
models: dict[str, Path] = {}


def say(line: str) -> None:
    """Print a line in one piece: print() writes its end apart, and threads come between."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        attributes = self.headers.get("X-Amzn-SageMaker-Custom-Attributes")
        if attributes:
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", attributes)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/ping":
            slow = (model / "slow").exists() and time.monotonic() - started < 2
            hopeless = (model / "hopeless").exists()
            said = b'{"status": "FAILED", "detail": "no model.json"}' if hopeless else b""
            self.answer(503 if slow or hopeless else 200, said)
        elif self.path == "/execution-parameters":
            kind = "application/json"
            self.answer(
                200,
                b'{"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD", '
                b'"MaxPayloadInMB": 6}',
                kind,
            )
        elif self.path == "/models" and several:
            self.answer(200, b'{"models": []}', "application/json")
        else:
            self.answer(404, b"")

    def do_DELETE(self) -> None:
        name = self.path.rpartition("/")[2]
        found = models.pop(name, None)
        self.answer(404 if found is None else 200, b"")

    def load(self, body: bytes) -> None:
        given = json.loads(body)
        name, folder = given["model_name"], Path(given["url"])
        if name in models:
            self.answer(409, b"")
        elif len(models) >= most:
            self.answer(507, b"toy: no memory")
        elif (folder / "broken").exists():
            self.answer(400, b"toy: broken")
        else:
            if (folder / "slow").exists():
                time.sleep(2)
            say(f"toy: loads {self.headers['X-Amzn-SageMaker-Target-Model']}")
            models[name] = folder
            self.answer(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        folder = model
        if several:
            if self.path == "/models":
                self.load(body)
                return
            invoked = self.path.split("/")[2]
            if invoked not in models:
                self.answer(404, b"toy: not loaded")
                return
            folder = models[invoked]
            if body == b"forget":
                del models[invoked]
        words = body[:100].decode(errors="replace").split()
        match words:
            case ["status", code]:
                self.answer(int(code), b"toy: as asked")
            case ["sleep", seconds]:
                time.sleep(float(seconds))
                self.answer(200, b"slept")
            case ["die"]:
                os._exit(7)
            case ["who"]:
                self.answer(200, (folder / "model.json").read_bytes(), "application/json")
            case ["stream"]:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for part in (b"one ", b"two ", b"three"):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.flush()
                    time.sleep(0.1)
                self.wfile.write(b"0\r\n\r\n")
            case _:
                self.answer(200, body, self.headers.get("Content-Type", "text/plain"))

    def log_message(
        self,
        format: str,  # noqa: A002
        *args: object,
    ) -> None:
        say(f"toy: {format % args}")


if (model / "broken").exists():
    print("toy: the model cannot be loaded: it is broken", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("toy: serving", sorted(path.name for path in model.iterdir()), flush=True)
host = "127.0.0.1" if "SAGEMAKER_BASE_DIR" in os.environ else "0.0.0.0"
port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
ThreadingHTTPServer.request_queue_size = 128  # by default 5 connections may wait
ThreadingHTTPServer((host, port), Handler).serve_forever()

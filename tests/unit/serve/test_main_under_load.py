"""The `serve` command under load: shutdown, and the death of a worker."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.unit.serve.artifacts import picture, write_artifact
from tests.unit.serve.server import Server, serving


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("ml")
    write_artifact(base / "model")
    return base


@pytest.fixture
def server(base: Path) -> Iterator[Server]:
    with serving(base) as server:
        server.wait_for("READY")
        yield server


def test_sigterm_answers_every_request_that_was_accepted(server: Server) -> None:
    body, clients = picture(), 40
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
    )
    with ExitStack() as stack:
        sockets = [stack.enter_context(server.socket()) for _ in range(clients)]
        for each in sockets:
            each.sendall(head)
        # After "100 Continue" a request is accepted and must get a response.
        for each in sockets:
            assert each.recv(100).startswith(b"HTTP/1.1 100")
        server.process.send_signal(signal.SIGTERM)
        for each in sockets:
            each.sendall(body)
        answers = [each.makefile("rb").readline() for each in sockets]
    assert [answer.split()[1] for answer in answers] == [b"200"] * clients
    assert server.process.wait(30) == 0


def test_a_worker_killed_under_load_loses_only_its_own_requests(server: Server) -> None:
    killed, stop, answered = threading.Event(), threading.Event(), threading.Semaphore(0)

    def client() -> tuple[set[int], int]:
        """Return the statuses received, and the number of 200s after the worker's death."""
        statuses, after = set(), 0
        while not stop.is_set():
            was_killed = killed.is_set()
            try:
                status, _ = server.invoke(picture())
            except (OSError, HTTPException):
                sleep(0.05)
                continue
            statuses.add(status)
            answered.release()
            after += was_killed and status == 200
            if after == 5:
                break
        return statuses, after

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        first = server.worker()
        for _ in range(16):
            assert answered.acquire(timeout=60)
        os.kill(first, signal.SIGKILL)
        killed.set()
        until = monotonic() + 120
        while not all(each.done() for each in clients) and monotonic() < until:
            sleep(0.05)
        stop.set()
    for each in clients:
        statuses, after = each.result()
        # 503 while the next worker loads the model.
        assert statuses <= {200, 503}
        assert after == 5
    assert server.worker() != first
    assert server.end() == 0


def test_models_of_a_worker_that_is_killed_are_loaded_again(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_artifact(tmp_path / "models" / name / "model")

    def load(server: Server, name: str) -> int:
        given = {"model_name": name, "url": f"{tmp_path}/models/{name}/model"}
        return server.ask("POST", "/models", json.dumps(given).encode())[0]

    with serving(tmp_path, SAGEMAKER_MULTI_MODEL="true", BERTH_MAX_MODELS="2") as server:
        server.wait_for("READY")
        assert [load(server, name) for name in ("a", "b", "c")] == [200] * 3
        assert server.ask("DELETE", "/models/b")[0] == 200
        os.kill(first := server.worker(), signal.SIGKILL)
        until = monotonic() + 60
        while Path(f"/proc/{first}").exists():
            assert monotonic() < until
            sleep(0.01)
        server.wait_for("READY")
        # SageMaker does not notice and invokes every model it has loaded and not unloaded.
        statuses = [server.ask("POST", f"/models/{n}/invoke", picture())[0] for n in "abc"]
        assert statuses == [200, 404, 200]
        assert load(server, "b") == 200

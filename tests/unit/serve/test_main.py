"""The `serve` command as SageMaker runs it: as a process with a port and signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.unit.serve.artifacts import picture, write_artifact
from tests.unit.serve.server import Server, serving

TWO_GPUS = """
import os, sys
from serve.inference import devices, engine

def refuse(*_, **__):
    raise engine.EngineError("there is no GPU in this test")

devices.gpus = lambda *_: ("0", "1")
devices.torch_installed = engine.torch_installed = lambda: True
engine.TorchEngine = refuse

from serve import gunicorn_conf
print("counted in", os.environ["PROMETHEUS_MULTIPROC_DIR"], flush=True)
from serve.__main__ import main
del sys.argv[1:]
main()
"""
"""A server whose two workers each hold a GPU to be theirs, and predict on the CPU."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("ml")
    write_artifact(base / "model")
    return base


def test_a_server_answers_survives_bad_requests_and_ends_on_sigterm(base: Path) -> None:
    with serving(base) as server:
        server.wait_for("READY")
        status, text = server.invoke(picture())
        assert (status, '"label": "red"' in text) == (200, True)

        status, text = server.invoke(bytes(30 * 1024 * 1024))
        assert (status, "at most 26,214,400" in text) == (413, True)
        for body in (b"", b"junk", picture()[:50]):
            assert server.invoke(body)[0] == 400
        assert server.ask("GET", "/nowhere")[0] == 404
        assert server.invoke(picture())[0] == 200

        mapped = Path(f"/proc/{server.worker()}/maps").read_text()
        assert "libopenvino" in mapped
        assert "libtorch" not in mapped

        assert server.end() == 0
        log = server.log.read_text()
    assert "POST /invocations status=200" in log
    assert "instances=1" in log
    assert "status=413" in log
    assert "/ping" not in log
    assert "Traceback" not in log


def test_two_workers_share_metrics_and_remove_their_files(base: Path) -> None:
    def counted() -> float:
        status, text = server.ask("GET", "/metrics")
        assert status == 200
        found = re.findall(r'^berth_invocations_total\{status="200"\} (\S+)', text, re.MULTILINE)
        return sum(map(float, found))

    with serving(base, (sys.executable, "-c", TWO_GPUS)) as server:
        server.wait_for("READY")
        pid = server.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        until = monotonic() + 120
        answered = 0
        while answered < 20:  # the other worker may still be loading, and answer 503
            answered += server.invoke(picture())[0] == 200
            assert monotonic() < until
        while counted() < answered:
            assert monotonic() < until
        assert counted() == answered
        assert server.end() == 0
        log = server.log.read_text()
    assert len(workers) == 2
    (folder,) = re.findall(r"^counted in (\S+)", log, re.MULTILINE)
    assert not Path(folder).exists()


def test_a_chunked_body_is_read_and_bounded_on_the_wire(base: Path) -> None:
    with serving(base, SAGEMAKER_MAX_PAYLOAD_IN_MB="1") as server:
        server.wait_for("READY")
        for extra, expected in ((0, 200), (3 * 1024 * 1024, 413)):
            with server.connection() as connection:
                pieces = iter([picture(), *[bytes(1024)] * (extra // 1024)])
                headers = {"Content-Type": "image/png"}
                connection.request("POST", "/invocations", pieces, headers, encode_chunked=True)
                assert connection.getresponse().status == expected
        assert server.invoke(picture())[0] == 200


def test_a_running_request_is_answered_before_shutdown(base: Path) -> None:
    with serving(base) as server, server.connection() as idle, server.connection() as busy:
        server.wait_for("READY")
        # An idle keep-alive connection must not hold up the end until the grace period is over.
        idle.request("GET", "/ping")
        idle.getresponse().read()

        body = picture()
        busy.putrequest("POST", "/invocations")
        busy.putheader("Content-Type", "image/png")
        busy.putheader("Content-Length", str(len(body)))
        busy.endheaders(body[:10])
        # Once a second request is answered on another connection, the first has been accepted.
        assert server.invoke(body)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        sleep(0.3)
        assert server.process.poll() is None
        busy.send(body[10:])
        assert busy.getresponse().status == 200
        assert server.process.wait(20) == 0


def test_a_failed_load_leaves_a_server_that_reports_it(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert "no model.json" in server.wait_for("FAILED")
        status, text = server.invoke(picture())
        assert (status, "no model.json" in text) == (503, True)
        assert server.end() == 0
        assert server.log.read_text().count("cannot serve:") == 1


def test_a_worker_that_is_killed_is_replaced(base: Path) -> None:
    with serving(base) as server:
        server.wait_for("READY")
        first = server.worker()
        os.kill(first, signal.SIGKILL)
        until = monotonic() + 60
        while Path(f"/proc/{first}").exists():
            assert monotonic() < until
            sleep(0.01)
        server.wait_for("READY")
        assert server.invoke(picture())[0] == 200


def stall(server: Server) -> socket.socket:
    """Occupy a place with a request whose body is too long to buffer and never sent completely."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Content-Length: 9000000\r\n\r\nsome"
    )
    return connection


def test_pings_are_answered_at_the_request_limit(base: Path) -> None:
    with serving(base) as server:
        server.wait_for("READY")
        stalled = [stall(server) for _ in range(128)]
        try:
            until = monotonic() + 40
            while (answer := server.invoke(picture()))[0] != 503:
                assert monotonic() < until
                # A place was free: a stalled request came while an invocation had the last one
                # and was refused.
                stalled.append(stall(server))
                sleep(0.05)
            assert "overloaded" in answer[1]
            assert server.ask("GET", "/ping")[0] == 200
        finally:
            for connection in stalled:
                connection.close()
        until = monotonic() + 60
        while server.invoke(picture())[0] != 200:
            assert monotonic() < until


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serve", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_invalid_settings_end_in_one_line() -> None:
    done = run(SAGEMAKER_BIND_TO_PORT="http")
    assert done.returncode == 1
    assert done.stderr.startswith("serve: SAGEMAKER_BIND_TO_PORT: found 'http', expected")
    assert done.stderr.count("\n") == 1
    assert run("--port", "80").stderr.startswith("serve: found argument '--port', expected none")


def test_an_unavailable_address_ends_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(SAGEMAKER_BIND_TO_PORT=port, BERTH_BIND_HOST="127.0.0.1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"serve: SAGEMAKER_BIND_TO_PORT: found port {port}, on which")
    assert done.stderr.count("\n") == 1
    # An address reserved for documentation (RFC 5737), which no machine has.
    done = run(SAGEMAKER_BIND_TO_PORT=port, BERTH_BIND_HOST="192.0.2.1")
    assert done.returncode == 1
    assert done.stderr.startswith("serve: BERTH_BIND_HOST: found 192.0.2.1, on which")
    assert done.stderr.count("\n") == 1


def test_concurrent_clients_are_all_answered(base: Path) -> None:
    with serving(base) as server:
        server.wait_for("READY")
        statuses: list[int] = []

        def client() -> None:
            with server.connection() as connection:
                for _ in range(10):
                    headers = {"Content-Type": "image/png"}
                    connection.request("POST", "/invocations", picture(), headers)
                    response = connection.getresponse()
                    response.read()
                    statuses.append(response.status)

        clients = [threading.Thread(target=client) for _ in range(6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert statuses == [200] * 60


def test_a_multi_model_server_starts_without_a_model_and_loads_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_artifact(tmp_path / "models" / name / "model")
    with serving(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        server.wait_for("READY")
        for name in ("a", "b"):
            given = {"model_name": name, "url": f"{tmp_path}/models/{name}/model"}
            assert server.ask("POST", "/models", json.dumps(given).encode())[0] == 200
        for name in ("a", "b"):
            status, text = server.ask("POST", f"/models/{name}/invoke", picture())
            assert (status, '"label": "red"' in text) == (200, True)
        assert server.ask("POST", "/invocations", picture())[0] == 404
        assert "libtorch" not in Path(f"/proc/{server.worker()}/maps").read_text()
        assert server.end() == 0
        log = server.log.read_text()
    assert "POST /models/a/invoke status=200" in log
    assert "Traceback" not in log

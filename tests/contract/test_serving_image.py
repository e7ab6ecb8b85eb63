"""Properties of the serving containers that can only be tested with Docker."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.docker
FULL = pytest.mark.parametrize("platform", ["docker"], indirect=True)
BOTH = pytest.mark.parametrize("platform", ["docker", "slim"], indirect=True)

INVOKE = """
import io, urllib.request
from PIL import Image
file = io.BytesIO()
Image.new("RGB", (40, 40), (200, 60, 60)).save(file, "PNG")
request = urllib.request.Request(
    "http://127.0.0.1:8080/invocations", file.getvalue(), {"Content-Type": "image/png"}
)
with urllib.request.urlopen(request, timeout=30) as answer:
    print(answer.read().decode())
"""
PING = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8080/ping", timeout=2).status)
"""


LOAD = """
import json, urllib.request
given = json.dumps({"model_name": "a", "url": "/opt/ml/models/a/model"}).encode()
urllib.request.urlopen(
    urllib.request.Request("http://127.0.0.1:8080/models", given), timeout=30
)
"""


def kill_worker(running: Any) -> None:
    """Kill the server's only worker and wait until it is gone."""
    script = (
        "set -- $(cat /proc/1/task/1/children); kill -9 $1; "
        "while [ -e /proc/$1 ]; do sleep 0.05; done"
    )
    done = running.container.exec_run(["sh", "-c", script])
    assert done.exit_code == 0, done.output


def inside(running: Any, script: str) -> tuple[int, str]:
    done = running.container.exec_run(["python", "-c", script])
    return done.exit_code, done.output.decode()


@FULL
def test_the_server_is_pid_1(platform: Any, trained: Any) -> None:
    with platform.serve(trained.tree.model) as endpoint:
        endpoint.until_ready()
        read = endpoint.running.container.exec_run(["cat", "/proc/1/cmdline"])
        first = read.output.decode().split("\0")
    assert Path(first[0]).name.startswith("python"), first
    assert Path(first[1]).name == "serve", first


@BOTH
def test_a_server_needs_no_network(platform: Any, trained: Any, wait_for: Any) -> None:
    """Stricter than EnableNetworkIsolation: the container has only the loopback interface."""
    volumes = {str(trained.tree.model): {"bind": "/opt/ml/model", "mode": "ro"}}
    with platform.command(["serve"], volumes=volumes, network_mode="none") as running:
        wait_for(lambda: inside(running, PING) == (0, "200\n"), running)
        code, answer = inside(running, INVOKE)
    assert code == 0, answer
    assert json.loads(answer)["predictions"][0]["label"] in {"blue", "green", "red"}


@BOTH
def test_a_server_writes_only_to_tmp(platform: Any, trained: Any) -> None:
    """Serverless endpoints have a read-only file system except for /tmp, and no /dev/shm.

    Here the server also runs as a user that the image does not know.
    """
    options = {"read_only": True, "tmpfs": {"/tmp": "size=64m"}, "ipc_mode": "none"}
    options |= {"user": "12345:12345"}
    with platform.serve(trained.tree.model, **options) as endpoint:
        endpoint.until_ready()
        code, answer = inside(endpoint.running, INVOKE)
    assert code == 0, answer


@BOTH
@pytest.mark.parametrize("many", [False, True])
def test_a_server_without_a_writable_folder_fails_with_one_line(platform: Any, many: bool) -> None:
    options = {"read_only": True, "ipc_mode": "none"}
    environment = {"SAGEMAKER_MULTI_MODEL": "true"} if many else {}
    with platform.command(["serve"], environment=environment, **options) as running:
        assert running.wait(60) == 1
        logs = running.logs()
    assert len(logs.splitlines()) == 1, logs
    assert logs.startswith("serve: temporary files: found /dev/shm (")
    assert "/tmp (Read-only file system)" in logs


FILL = "cat /dev/zero > /tmp/full 2> /dev/null; exec serve"


@BOTH
def test_a_server_and_a_restarted_worker_work_while_tmp_is_full(
    platform: Any, trained: Any, wait_for: Any
) -> None:
    options = {"read_only": True, "tmpfs": {"/tmp": "size=1m"}, "ipc_mode": "none"}
    options |= {"volumes": {str(trained.tree.model): {"bind": "/opt/ml/model", "mode": "ro"}}}
    with platform.command(["sh", "-c", FILL], **options) as running:
        for _ in range(2):
            wait_for(lambda: inside(running, PING) == (0, "200\n"), running)
            code, answer = inside(running, INVOKE)
            assert code == 0, answer
            kill_worker(running)
        free = running.container.exec_run(["sh", "-c", "df -k /tmp | tail -1"]).output.decode()
        logs = running.logs()
    assert free.split()[3] == "0", free
    assert "Traceback" not in logs


@BOTH
def test_loaded_models_can_be_invoked_after_a_worker_is_killed_while_tmp_is_full(
    platform: Any, trained: Any, wait_for: Any
) -> None:
    options = {"read_only": True, "tmpfs": {"/tmp": "size=1m"}, "ipc_mode": "none"}
    options |= {
        "volumes": {str(trained.tree.model): {"bind": "/opt/ml/models/a/model", "mode": "ro"}}
    }
    options |= {"environment": {"SAGEMAKER_MULTI_MODEL": "true"}}
    invoke = INVOKE.replace("/invocations", "/models/a/invoke")
    with platform.command(["sh", "-c", FILL], **options) as running:
        wait_for(lambda: inside(running, PING) == (0, "200\n"), running)
        code, answer = inside(running, LOAD)
        assert code == 0, answer
        kill_worker(running)
        wait_for(lambda: inside(running, PING) == (0, "200\n"), running)
        code, answer = inside(running, invoke)
        assert code == 0, answer
        assert "Traceback" not in running.logs()


@FULL
def test_a_killed_worker_is_restarted(platform: Any, trained: Any, wait_for: Any) -> None:
    with platform.serve(trained.tree.model) as endpoint:
        endpoint.until_ready()
        kill_worker(endpoint.running)
        endpoint.until_ready()
        code, answer = inside(endpoint.running, INVOKE)
    assert code == 0, answer

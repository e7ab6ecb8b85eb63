import logging
import subprocess
from pathlib import Path

import psutil
import pytest

from local.emulator.executors import Executor, ExecutorError, docker
from local.emulator.executors.cleanup import clean_up
from local.emulator.executors.process import Commands, ProcessExecutor
from local.emulator.executors.process_registry import ProcessRegistry
from local.emulator.home import Home
from tests.unit.local.emulator.executors.containers import Start

SLEEP = "import time; print('sleeps'); time.sleep(60)"


@pytest.mark.parametrize(
    "later", ["process", pytest.param("docker", marks=pytest.mark.docker), None]
)
def test_any_later_server_removes_remaining_containers(
    toy_executor: Executor,
    toy_commands: Commands,
    start: Start,
    home: Home,
    tmp_path: Path,
    later: str | None,
    request: pytest.FixtureRequest,
) -> None:
    left = start(toy_executor, SLEEP, name="left")
    left.until_prints("sleeps")
    executor: Executor | None = None
    if later == "process":
        executor = ProcessExecutor(home, toy_commands)
    elif later == "docker":
        request.getfixturevalue("toy_image")
        executor = docker.DockerExecutor(home)
    assert clean_up(Home.find(tmp_path / "other home")) == []
    assert left.container.wait(0) is None
    assert clean_up(home, executor) == ["left"]
    assert left.container.wait(20) == 137
    assert clean_up(home, executor) == []
    assert not home.containers_marker.exists()


@pytest.mark.parametrize("toy_executor", ["docker"], indirect=True)
@pytest.mark.docker
def test_the_marker_exists_as_long_as_a_container_or_network_does(
    toy_executor: Executor, start: Start, home: Home
) -> None:
    assert not home.containers_marker.exists()
    toy_executor.create_network("between", isolated=False)
    job = start(toy_executor, "print('done')")
    toy_executor.remove_network("between")
    job.container.wait()
    assert home.containers_marker.exists()
    job.container.remove()
    assert not home.containers_marker.exists()


def test_containers_of_an_unreachable_engine_are_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def connect() -> None:
        raise ExecutorError("no Docker engine answers")

    monkeypatch.setattr(docker, "connect", connect)
    home.containers_marker.touch()
    with caplog.at_level(logging.WARNING):
        assert clean_up(home, ProcessExecutor(home, {})) == []
    (line,) = caplog.messages
    assert f"berth-{home.id}-" in line
    assert "no Docker engine answers" in line
    assert home.containers_marker.exists()


def test_a_home_without_containers_needs_no_engine(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "connect", lambda: pytest.fail("connected to an engine"))
    assert clean_up(home) == []


def test_a_process_that_ended_by_itself_is_not_an_error(home: Home) -> None:
    with subprocess.Popen(["true"]) as process:
        ProcessRegistry(home).add("ended", process.pid)
    assert not psutil.pid_exists(process.pid)
    assert clean_up(home) == ["ended"]
    assert clean_up(home) == []

import logging
import subprocess

import psutil
import pytest

from local.emulator.executors import ExecutorError, docker
from local.emulator.executors.cleanup import clean_up
from local.emulator.executors.process import ProcessExecutor
from local.emulator.executors.process_registry import ProcessRegistry
from local.emulator.home import Home

SLEEP = "import time; print('sleeps'); time.sleep(60)"


@pytest.mark.parametrize("later", ["process", "docker", None])
def test_whoever_comes_next_removes_what_is_left(
    toy_executor, toy_commands, start, home, tmp_path, later, request
):
    left = start(toy_executor, SLEEP, name="left")
    left.until_says("sleeps")
    if later == "docker" and toy_executor.name == "process":
        pytest.importorskip("docker")
        request.getfixturevalue("toy_image")
    executor = {
        "process": lambda: ProcessExecutor(home, toy_commands),
        "docker": lambda: docker.DockerExecutor(home),
        None: lambda: None,
    }[later]()
    assert clean_up(Home.find(tmp_path / "other home")) == []
    assert left.container.wait(0) is None
    assert clean_up(home, executor) == ["left"]
    assert left.container.wait(20) == 137
    assert clean_up(home, executor) == []
    assert not home.containers_marker.exists()


@pytest.mark.parametrize("toy_executor", ["docker"], indirect=True)
@pytest.mark.docker
def test_the_note_is_there_as_long_as_anything_is(toy_executor, start, home):
    note = home.containers_marker
    assert not note.exists()
    toy_executor.create_network("between", isolated=False)
    job = start(toy_executor, "print('done')")
    toy_executor.remove_network("between")
    job.container.wait()
    assert note.exists()
    job.container.remove()
    assert not note.exists()


def test_containers_that_cannot_be_looked_for_are_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone() -> None:
        raise ExecutorError("no Docker engine answers")

    monkeypatch.setattr(docker, "connect", gone)
    home.containers_marker.touch()
    with caplog.at_level(logging.WARNING):
        assert clean_up(home, ProcessExecutor(home, {})) == []
    (line,) = caplog.messages
    assert f"berth-{home.id}-" in line
    assert "no Docker engine answers" in line
    assert home.containers_marker.exists()


def test_no_engine_is_asked_for_a_home_that_had_no_containers(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "connect", lambda: pytest.fail("nobody had asked for an engine"))
    assert clean_up(home) == []


def test_a_process_that_ended_by_itself_is_no_error(home: Home) -> None:
    with subprocess.Popen(["true"]) as process:
        ProcessRegistry(home).add("ended", process.pid)
    assert not psutil.pid_exists(process.pid)
    assert clean_up(home) == ["ended"]
    assert clean_up(home) == []

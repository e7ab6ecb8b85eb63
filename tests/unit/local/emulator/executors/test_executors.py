"""The behaviour of a container with either executor."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from local.emulator.executors import ContainerSpec, Executor, ExecutorError, ImageMissing
from local.emulator.executors.docker import DockerExecutor
from local.emulator.executors.process import Commands, ProcessExecutor
from local.emulator.home import Home
from tests.unit.local.emulator.executors.containers import (
    Start,
    StartedContainer,
    is_locked,
    locking_script,
    status_of,
    until,
)


def test_stdout_and_stderr_of_a_short_process_are_delivered_completely(
    toy_executor: Executor, start: Start
) -> None:
    job = start(toy_executor, "import os; os.write(2, b'to stderr\\n'); os._exit(0)")
    assert job.container.wait() == 0
    assert job.lines == ["to stderr"]


def test_a_line_is_delivered_while_it_runs(toy_executor: Executor, start: Start) -> None:
    job = start(toy_executor, "import time; print('now'); time.sleep(60)")
    job.until_prints("now")
    assert job.container.wait(0) is None


def test_a_line_that_cannot_be_stored_does_not_block_the_job(
    toy_executor: Executor, start: Start, tmp_path: Path, toy_uri: str
) -> None:
    base = tmp_path / "full"
    base.mkdir()

    def full(_line: str) -> None:
        raise OSError("no space left")

    spec = ContainerSpec("full", toy_uri, ("for n in range(100000): print(n)",), base)
    spec = dataclasses.replace(spec, entrypoint=("python3", "-c"))
    container = toy_executor.start(spec, full)
    assert container.wait(30) == 0
    container.remove()


def test_stop_sends_sigterm_first(toy_executor: Executor, start: Start) -> None:
    job = start(
        toy_executor,
        "import signal, sys, time\n"
        "def stop(*_): print('stopping'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready'); time.sleep(60)",
    )
    job.until_prints("ready")
    assert job.container.stop(20) == 143
    assert job.lines == ["ready", "stopping"]
    assert job.container.stop(20) == 143


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_period(
    toy_executor: Executor, start: Start
) -> None:
    job = start(
        toy_executor,
        "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
        "print('ready')\nwhile True: time.sleep(60)",
    )
    job.until_prints("ready")
    assert job.container.stop(0.3) == 137
    assert job.lines == ["ready", "no"]


def test_children_end_with_their_parent_process(
    toy_executor: Executor, start: Start, tmp_path: Path
) -> None:
    job = start(toy_executor, locking_script(toy_executor, tmp_path / "job"))
    assert job.container.wait(20) == 0
    assert job.lines == ["locked"]
    until(lambda: not is_locked(job.base))


@pytest.mark.parametrize("how", ["stop", "remove"])
def test_children_end_with_stop_and_remove(
    toy_executor: Executor, start: Start, tmp_path: Path, how: str
) -> None:
    script = locking_script(toy_executor, tmp_path / "job")
    job = start(toy_executor, f"{script}\nimport time; time.sleep(60)")
    job.until_prints("locked")
    assert is_locked(job.base)
    if how == "stop":
        assert job.container.stop(0.1) in (137, 143)
    else:
        job.container.remove()
        assert job.container.wait(0) == 137
    until(lambda: not is_locked(job.base))


def test_a_name_is_in_use_until_its_container_is_removed(
    toy_executor: Executor, start: Start
) -> None:
    first = start(toy_executor, "print('first')")
    first.container.wait()
    with pytest.raises(ExecutorError, match="job"):
        start(toy_executor, "print('second')")
    first.container.remove()
    first.container.remove()
    second = start(toy_executor, "print('second'); import time; time.sleep(60)")
    first.container.remove()
    second.until_prints("second")
    assert second.container.wait(0) is None
    with pytest.raises(ExecutorError, match="job"):
        start(toy_executor, "print('third')")


def test_a_server_is_reached_at_its_address(
    toy_executor: Executor, tmp_path: Path, toy_uri: str
) -> None:
    (tmp_path / "served" / "model").mkdir(parents=True)
    spec = ContainerSpec("served", toy_uri, ("serve",), tmp_path / "served", port=8080)
    lines: list[str] = []
    containers = [toy_executor.start(spec, lines.append)]
    containers.append(toy_executor.start(dataclasses.replace(spec, name="other"), lines.append))
    addresses = {container.address for container in containers}
    assert len(addresses) == 2
    for host, port in addresses:
        assert host == "127.0.0.1"
        assert status_of(f"http://{host}:{port}/ping") == 200
    for container in containers:
        assert container.stop(20) == 0
        container.remove()


def test_a_container_without_a_port_has_no_address(toy_executor: Executor, start: Start) -> None:
    job = start(toy_executor, "pass")
    with pytest.raises(ExecutorError, match="job does not listen on a port"):
        _ = job.container.address


def test_the_toy_trains(toy_executor: Executor, tmp_path: Path, toy_uri: str) -> None:
    base = tmp_path / "train"
    (base / "input" / "config").mkdir(parents=True)
    (base / "input" / "config" / "hyperparameters.json").write_text('{"seconds": "0"}')
    (base / "input" / "config" / "resourceconfig.json").write_text('{"current_host": "algo-1"}')
    lines: list[str] = []
    spec = ContainerSpec(
        "train", toy_uri, ("train",), base, environment={"TRAINING_JOB_NAME": "one"}
    )
    container = toy_executor.start(spec, lines.append)
    assert container.wait(30) == 0
    assert lines[0] == "toy: job one on algo-1"
    assert lines[-1] == "toy: done"
    container.remove()
    assert json.loads((base / "model" / "model.json").read_text())["epochs"] == 3


SHARE = """
import fcntl, os, time
if BASE == "/opt/ml":
    os.setuid(4242)  # an image's user, who is not the home's owner
file = open(BASE + "/some/where/lock", "a")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("taken")
else:
    print("locked")
    time.sleep(SECONDS)
"""
"""A script that takes a lock in a shared folder and keeps it for `SECONDS`."""


def test_containers_share_a_folder_and_its_locks(
    toy_executor: Executor, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"

    def run(name: str, seconds: int) -> StartedContainer:
        base = "/opt/ml" if toy_executor.name == "docker" else str(tmp_path / name)
        script = f"BASE, SECONDS = {base!r}, {seconds}\n{SHARE}"
        return start(toy_executor, script, name, shared={"some/where": folder})

    first = run("first", 60)
    first.until_prints("locked")
    second = run("second", 0)
    assert second.output() == ["taken"]
    second.container.remove()
    first.container.remove()
    third = run("third", 0)
    assert third.output() == ["locked"]
    third.container.remove()
    (kept,) = folder.iterdir()
    assert (kept.name, kept.stat().st_uid) == ("lock", os.getuid())
    assert kept.stat().st_mode & 0o666 == 0o666 or toy_executor.name == "process"


def test_a_shared_folder_replaces_the_files_of_an_earlier_container(
    toy_executor: Executor, start: Start, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "some").symlink_to(outside)
    base = "/opt/ml" if toy_executor.name == "docker" else str(tmp_path / "job")
    folder = tmp_path / "shared"
    job = start(
        toy_executor,
        f"open({base!r} + '/some/where/file', 'w').write('kept')",
        shared={"some/where": folder},
    )
    assert job.container.wait(20) == 0
    assert [path.read_text() for path in folder.iterdir()] == ["kept"]
    assert list(outside.iterdir()) == []


PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def environment_of(job: StartedContainer) -> dict[str, str]:
    found: dict[str, str] = json.loads(job.output()[-1])
    return found


def test_the_environment_is_that_of_the_request_without_secrets(
    toy_executor: Executor, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GITHUB_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("SM_MODEL_DIR", "/elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:hush@127.0.0.1:5000")
    monkeypatch.setenv("TRAINING_JOB_NAME", "another")
    given = {"MINE": "a b=c", "AWS_REGION": "eu-west-1"}
    found = environment_of(start(toy_executor, PRINT_ENVIRONMENT, environment=given))
    assert found.items() >= given.items()
    assert "hush" not in found.values()
    assert not found.keys() & {
        "MLFLOW_TRACKING_URI",
        "SM_MODEL_DIR",
        "TRAINING_JOB_NAME",
        "OMP_WAIT_POLICY",
    }


def test_with_shared_cores_threads_do_not_spin(toy_executor: Executor, start: Start) -> None:
    found = environment_of(start(toy_executor, PRINT_ENVIRONMENT, cpus=1))
    assert found["OMP_WAIT_POLICY"] == "PASSIVE"
    if toy_executor.name == "process":
        assert found["OMP_NUM_THREADS"] == "1"


def test_the_request_may_override_thread_settings(toy_executor: Executor, start: Start) -> None:
    given = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "7"}
    found = environment_of(start(toy_executor, PRINT_ENVIRONMENT, cpus=1, environment=given))
    assert found.items() >= given.items()


def test_a_missing_image(toy_executor: Executor, start: Start) -> None:
    with pytest.raises(ImageMissing, match=r"host:5000/nobody/nothing:1"):
        toy_executor.check_image("host:5000/nobody/nothing:1")
    with pytest.raises(ImageMissing, match=r"host:5000/nobody/nothing:1"):
        start(toy_executor, "pass", image="host:5000/nobody/nothing:1")


def test_an_image_without_the_command(toy_executor: Executor, tmp_path: Path, toy_uri: str) -> None:
    for command, entrypoint in ((("tune",), None), (("x",), ("tune",))):
        spec = ContainerSpec("job", toy_uri, command, tmp_path, entrypoint=entrypoint)
        with pytest.raises(ExecutorError, match=f"{toy_uri} has no .*'tune'") as caught:
            toy_executor.start(spec, print)
        assert "\n" not in str(caught.value)
    assert toy_executor.reap() == []


def test_reap_ends_containers_of_another_server_in_the_same_home_only(
    toy_executor: Executor, start: Start, tmp_path: Path, toy_commands: Commands
) -> None:
    script = locking_script(toy_executor, tmp_path / "left")
    left = start(toy_executor, f"{script}\nimport time; time.sleep(60)", name="left")
    left.until_prints("locked")
    ended = start(toy_executor, "pass", name="ended")
    ended.container.wait()
    if toy_executor.max_hosts > 1:
        toy_executor.create_network("between", isolated=True)

    def later_executor(home: Home) -> Executor:
        if toy_executor.name == "docker":
            return DockerExecutor(home)
        return ProcessExecutor(home, toy_commands)

    assert later_executor(Home.find(tmp_path / "other home")).reap() == []
    assert is_locked(left.base)
    found = later_executor(Home.find(tmp_path / "home")).reap()
    assert sorted(found) == ["between", "ended", "left"][toy_executor.max_hosts == 1 :]
    until(lambda: not is_locked(left.base))
    assert left.container.wait(20) == 137
    assert toy_executor.reap() == []

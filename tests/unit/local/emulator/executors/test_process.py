import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.emulator.executors import ContainerSpec, ExecutorError, ImageMissing, process
from local.emulator.executors.process import Commands, ProcessExecutor, repository
from local.emulator.executors.process_registry import MARK, ProcessRegistry
from local.emulator.home import Home
from tests.unit.local.emulator.executors.containers import Start, until


@pytest.fixture
def executor(home: Home, toy_commands: Commands) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(home, toy_commands)
    yield executor
    executor.reap()


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("berth", "berth"),
        ("berth:latest", "berth"),
        ("localhost:5000/team/berth", "berth"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:1.2", "berth"),
        ("registry:5000/berth@sha256:" + "0" * 64, "berth"),
        ("berth:v1@sha256:" + "0" * 64, "berth"),
        ("other/berth-toy:berth", "berth-toy"),
    ],
)
def test_the_repository_of_a_uri(image: str, name: str) -> None:
    assert repository(image) == name


def test_another_image_is_refused_with_the_executor_that_runs_it(executor: ProcessExecutor) -> None:
    with pytest.raises(ImageMissing, match=r"\(…/toy:tag\), found busybox:1; .*--executor docker"):
        executor.check_image("busybox:1")
    executor.check_image("host:5000/any/toy:1@sha256:" + "0" * 64)


def test_commands_that_are_not_installed_are_named(home: Home) -> None:
    executor = ProcessExecutor(home, {"toy": {"train": ("/nowhere/train",)}})
    with pytest.raises(
        ImageMissing, match=r"/nowhere/train, .* pip install 'berth-vision\[image\]'"
    ):
        executor.check_image("toy")


def test_the_berth_image_means_the_commands_of_this_environment(home: Home) -> None:
    executor = ProcessExecutor(home)
    executor.check_image("berth:latest")
    with pytest.raises(ExecutorError, match="only runs serve and train;"):
        executor.start(ContainerSpec("job", "berth:latest", ("tune",), home.path), print)


def test_the_request_may_set_what_the_image_sets(executor: ProcessExecutor, start: Start) -> None:
    script = "import os; print(os.environ['SAGEMAKER_TRAINING_MODULE'])"
    plain = start(executor, script, name="plain")
    other = start(
        executor, script, name="other", environment={"SAGEMAKER_TRAINING_MODULE": "mine:main"}
    )
    assert plain.output() == ["container.train:main"]
    assert other.output() == ["mine:main"]


def test_the_default_command_is_that_of_the_image(
    executor: ProcessExecutor, tmp_path: Path, toy_uri: str
) -> None:
    lines: list[str] = []
    container = executor.start(ContainerSpec("job", toy_uri, (), tmp_path), lines.append)
    assert container.wait(20) == 1
    assert any("train.py" in line for line in lines), "the toy's train finds no configuration"
    container.remove()


def test_a_process_that_cannot_be_isolated_logs_it(executor: ProcessExecutor, start: Start) -> None:
    job = start(executor, "print('running')", isolated=True)
    warning, *lines = job.output()
    assert "--executor docker" in warning
    assert lines == ["running"]


def test_gpus_are_hidden_unless_the_spec_requests_them(
    executor: ProcessExecutor, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    script = "import os; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))"
    without = start(executor, script, name="without")
    given = start(executor, script, name="given", gpus=True)
    assert without.output() == ["''"]
    assert given.output() == ["None"]


ESCAPE = (
    "import os, subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    " env={}, start_new_session=True)\n"
    "print(child.pid)"
)
"""Leaves a process that shares nothing with the job any more but its output."""


def test_a_detached_child_that_keeps_the_output_open_does_not_delay_the_end(
    executor: ProcessExecutor, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.2)
    job = start(executor, ESCAPE)
    try:
        assert job.container.wait(20) == 0
    finally:
        os.kill(int(job.first_line()), signal.SIGKILL)


def test_a_child_that_only_left_its_environment_is_killed_with_its_parent(
    executor: ProcessExecutor, start: Start
) -> None:
    job = start(executor, f"{ESCAPE}\nimport time; time.sleep(60)")
    pid = int(job.first_line())
    job.container.remove()
    until(lambda: gone(pid))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


SERVER = """
import json, sys, time
from pathlib import Path
from local.emulator.executors import ContainerSpec
from local.emulator.executors.process import ProcessExecutor
from local.emulator.home import Home
home, base, commands = sys.argv[1:]
executor = ProcessExecutor(Home.find(Path(home)), json.loads(commands))
script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
spec = ContainerSpec("orphan", "toy", (script,), Path(base), entrypoint=("python3", "-c"))
executor.start(spec, lambda line: print(line, flush=True))
time.sleep(60)
"""


def test_reap_ends_processes_of_a_killed_server(
    executor: ProcessExecutor, tmp_path: Path, toy_commands: Commands
) -> None:
    words = [sys.executable, "-c", SERVER, str(tmp_path / "home"), str(tmp_path)]
    server = subprocess.Popen([*words, json.dumps(toy_commands)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    orphan = int(server.stdout.readline())
    server.kill()
    server.wait()
    server.stdout.close()
    assert not gone(orphan)
    assert executor.reap() == ["orphan"]
    until(lambda: gone(orphan))
    assert executor.reap() == []


def test_reap_finds_a_process_that_is_not_registered_yet(
    executor: ProcessExecutor, start: Start, home: Home
) -> None:
    job = start(executor, "import time; print('ready'); time.sleep(60)")
    job.until_prints("ready")
    ProcessRegistry(home).remove("job")
    executor.reap()
    assert job.container.wait(20) == 137


def test_reap_spares_a_process_that_reuses_a_pid(executor: ProcessExecutor, home: Home) -> None:
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        ProcessRegistry(home).add("old", innocent.pid)
        path = home.processes / "old.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"started": record["started"] - 5}))
        assert executor.reap() == ["old"]
        assert innocent.poll() is None
        assert not path.exists()
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_reap_accepts_a_truncated_file(executor: ProcessExecutor, home: Home, text: str) -> None:
    (home.processes / "cut.json").write_text(text)
    assert executor.reap() == ["cut"]
    assert list((home.processes).iterdir()) == []


def test_reap_never_ends_itself(home: Home) -> None:
    code = (
        "from pathlib import Path; import sys\n"
        "from local.emulator.executors.process import ProcessExecutor\n"
        "from local.emulator.home import Home\n"
        "ProcessExecutor(Home.find(Path(sys.argv[1])), {}).reap(); print('alive')"
    )
    environment = os.environ | ProcessRegistry(home).mark("outer")
    ended = subprocess.run(
        [sys.executable, "-c", code, str(home.path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert MARK in environment
    assert (ended.returncode, ended.stdout) == (0, "alive\n")


def test_a_process_that_cannot_be_registered_is_not_left_running(
    executor: ProcessExecutor, start: Start, home: Home
) -> None:
    home.processes.rmdir()
    with pytest.raises(ExecutorError, match="job cannot be registered: .*No such file"):
        start(executor, "import time; time.sleep(60)")
    assert not list(marked_processes(home))
    home.processes.mkdir()
    assert start(executor, "pass").container.wait() == 0


def marked_processes(home: Home) -> Iterator[psutil.Process]:
    for found in psutil.process_iter():
        try:
            value = found.environ().get(MARK, "")
        except psutil.Error:
            continue
        if value.startswith(f"{home.id}/"):
            yield found


def test_a_missing_folder_is_named_and_the_name_stays_free(
    executor: ProcessExecutor, start: Start, tmp_path: Path
) -> None:
    spec = ContainerSpec("job", "toy", ("train",), tmp_path / "nowhere", port=8080)
    with pytest.raises(ExecutorError, match="did not start: .*nowhere"):
        executor.start(spec, print)
    assert start(executor, "pass").container.wait() == 0


def test_each_container_gets_its_own_port(executor: ProcessExecutor, start: Start) -> None:
    script = "import os; print(os.environ['SAGEMAKER_BIND_TO_PORT'], os.environ['BERTH_BIND_HOST'])"
    jobs = [start(executor, script, name=f"job{n}", port=8080) for n in range(5)]
    for job in jobs:
        host, port = job.container.address
        assert job.output() == [f"{port} {host}"]
    assert len({job.container.address for job in jobs}) == 5

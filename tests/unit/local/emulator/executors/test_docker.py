import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.client import DockerClient
from docker.errors import APIError
from docker.models.containers import Container as SdkContainer

from local.emulator.executors import SHM_SIZE, ContainerSpec, ExecutorError, saved_output
from local.emulator.executors.docker import DockerExecutor
from local.emulator.home import Home
from tests.unit.local.emulator.executors.containers import Start, status_of

pytestmark = pytest.mark.docker


@pytest.fixture
def executor(home: Home, toy_image: str) -> Iterator[DockerExecutor]:
    executor = DockerExecutor(home)
    yield executor
    executor.reap()


def test_read_only_folders_cannot_be_written(executor: DockerExecutor, start: Start) -> None:
    script = (
        "open('/opt/ml/free', 'w').write('x')\n"
        "for part in ('input/data/file', 'model/file'):\n"
        "    try: open('/opt/ml/' + part, 'w')\n"
        "    except OSError as error: print(part, error.strerror)"
    )
    job = start(executor, script, read_only=("input/data", "model"))
    assert job.container.wait() == 0
    assert job.lines == [
        "input/data/file Read-only file system",
        "model/file Read-only file system",
    ]
    assert (job.base / "free").read_text() == "x"


def test_a_single_file_may_be_read_only(
    executor: DockerExecutor, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "file").write_text("kept")
    script = "print(open('/opt/ml/file').read()); open('/opt/ml/file', 'w')"
    job = start(executor, script, read_only=("file",))
    assert job.container.wait() == 1
    assert "kept" in job.lines  # standard error may be delivered first
    with pytest.raises(ExecutorError, match="job did not start: .*Not a directory"):
        start(executor, script, read_only=("file/part",))


def test_a_later_server_owns_the_shared_folders_of_a_killed_servers_jobs(
    executor: DockerExecutor, start: Start, home: Home
) -> None:
    script = (
        "import os, time; os.setuid(4242); place = '/opt/ml/sagemaker/warmpoolcache'; "
        "os.mkdir(f'{place}/theirs', 0o700); print('made', flush=True); time.sleep(60)"
    )
    job = start(executor, script, shared={"sagemaker/warmpoolcache": home.warm_pool_cache})
    job.until_prints("made")
    made = home.warm_pool_cache / "theirs"
    assert made.stat().st_uid == 4242
    assert DockerExecutor(home).reap() == ["job"]
    assert made.stat().st_uid == os.getuid()


@pytest.mark.parametrize("ps", ["of procps", "of BusyBox"])
def test_sigterm_waits_for_a_handler(
    ps: str, executor: DockerExecutor, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise APIError("ps: bad -o argument 'caught'")

    if ps == "of BusyBox":
        monkeypatch.setattr(SdkContainer, "top", refuse)
    script = (
        "import signal, sys, time; print('up'); time.sleep(0.5)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); time.sleep(60)"
    )
    job = start(executor, script)
    job.until_prints("up")
    assert job.container.stop(30) == 3
    deaf = start(executor, "import time; time.sleep(60)", name="deaf")
    assert deaf.container.stop(0.2) == 137
    short = start(executor, "import time; time.sleep(0.5); raise SystemExit(4)", name="short")
    assert short.container.stop(30) == 4


def test_shared_memory_is_large(executor: DockerExecutor, start: Start) -> None:
    script = "import os; s = os.statvfs('/dev/shm'); print(s.f_blocks * s.f_frsize)"
    assert start(executor, script, name="one").output() == [str(SHM_SIZE)]
    assert start(executor, script, name="two", shm_size=2**20).output() == [str(2**20)]


def test_cores_are_limited_to_the_requested_or_all(
    executor: DockerExecutor, start: Start, engine: DockerClient
) -> None:
    for name, cpus, expected in (("one", 1, 1), ("many", 1000, engine.info()["NCPU"])):
        job = start(executor, "import time; time.sleep(60)", name=name, cpus=cpus)
        (container,) = engine.containers.list(filters={"name": f"-{name}$"})
        assert container.attrs["HostConfig"]["NanoCpus"] == expected * 10**9
        job.container.remove()


INTERFACES = "import os; print(sorted(os.listdir('/sys/class/net')))"


def test_an_isolated_container_without_a_port_has_no_network(
    executor: DockerExecutor, start: Start
) -> None:
    assert start(executor, INTERFACES, isolated=True).output() == ["['lo']"]


CONNECT = """
import socket, sys
try:
    socket.create_connection(({host!r}, {port}), timeout=1).close()
    print("connected")
except OSError as error:
    print("refused:", error)
"""


SERVE = "import runpy; runpy.run_path('/opt/serve.py', run_name='__main__')"


@pytest.mark.parametrize(("isolated", "expected"), [(False, "connected"), (True, "refused")])
def test_an_isolated_server_is_reachable_and_has_no_outgoing_network(
    executor: DockerExecutor,
    start: Start,
    engine: DockerClient,
    isolated: bool,
    expected: str,
    home: Home,
) -> None:
    other = start(executor, SERVE, name="other", port=8080, read_only=("model",))
    other.until_prints("toy: serving []")
    (container,) = engine.containers.list(filters={"name": "-other$"})
    address = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

    script = f"{CONNECT.format(host=address, port=8080)}\n{SERVE}"
    job = start(executor, script, isolated=isolated, port=8080, read_only=("model",))
    job.until_prints("toy: serving []")
    assert job.lines[0].startswith(expected), job.lines
    host, port = job.container.address
    assert (host == "127.0.0.1") is not isolated
    assert status_of(f"http://{host}:{port}/ping") == 200
    job.container.remove()
    assert engine.networks.list(names=[f"berth-{home.id}"]) == []


def test_only_hosts_of_a_job_reach_each_other_by_name(
    executor: DockerExecutor, start: Start
) -> None:
    listen = (
        "import socket\n"
        "with socket.create_server(('', 7000)) as server:\n"
        "    print('listening'); client, _ = server.accept(); print(client.recv(9).decode())"
    )
    call = (
        "import socket, sys\n"
        "with socket.create_connection(('algo-1', 7000), timeout=5) as client:\n"
        "    client.sendall(socket.gethostname().encode()); print('called')"
    )
    executor.create_network("pair", isolated=True)
    with pytest.raises(ExecutorError, match="pair"):
        executor.create_network("pair", isolated=True)
    options = {"network": "pair", "isolated": True}
    first = start(executor, listen, name="first", hostname="algo-1", **options)
    first.until_prints("listening")
    stranger = start(executor, call, name="stranger", hostname="algo-3")
    second = start(executor, call, name="second", hostname="algo-2", **options)
    assert second.output() == ["called"]
    assert first.output() == ["listening", "algo-2"]
    assert stranger.container.wait() == 1
    for job in (first, second):
        job.container.remove()
    executor.remove_network("pair")
    executor.remove_network("pair")
    executor.create_network("pair", isolated=False)
    executor.remove_network("pair")


WRITE = (
    "import os\n"
    "os.makedirs('/opt/ml/deep/er', mode=0o700)\n"
    "open('/opt/ml/deep/er/file', 'w').write('x'); os.symlink('/etc/passwd', '/opt/ml/link')"
)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")} | {folder.stat().st_uid}


def test_files_belong_to_the_owner_of_the_home(
    executor: DockerExecutor, start: Start, home: Home
) -> None:
    theirs = DockerExecutor(home, owner=(12345, 12346))
    job = start(theirs, WRITE)
    job.container.wait()
    assert owners(job.base) == {os.getuid()}
    job.container.remove()
    assert owners(job.base) == {12345}
    assert (job.base / "link").lstat().st_gid == 12346
    assert (job.base / "deep" / "er" / "file").stat().st_gid == 12346


def test_files_of_a_dead_servers_container_belong_to_the_owner_of_the_home(
    executor: DockerExecutor, start: Start, home: Home
) -> None:
    job = start(executor, f"{WRITE}\nprint('written')\nimport time; time.sleep(60)")
    job.until_prints("written")
    later = DockerExecutor(home, owner=(12345, 12346))
    assert later.reap() == ["job"]
    assert owners(job.base) == {12345}


def test_the_output_of_a_dead_servers_container_is_saved(
    executor: DockerExecutor, start: Start, home: Home
) -> None:
    job = start(executor, "print('one'); print('two'); import time; time.sleep(60)")
    job.until_prints("two")
    assert DockerExecutor(home).reap() == ["job"]
    assert saved_output(job.base).read_text() == "one\ntwo\n"


def test_an_image_uri_of_this_account_means_the_local_image(
    executor: DockerExecutor, start: Start, engine: DockerClient
) -> None:
    registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    digest = engine.images.get("toy:latest").id
    for number, uri in enumerate([f"{registry}/toy:latest", f"{registry}/toy", f"toy@{digest}"]):
        executor.check_image(uri)
        assert start(executor, "print('ran')", name=f"job{number}", image=uri).output() == ["ran"]
    for uri in (f"{registry}/toy:other", "host:5000/toy:latest", "Not A Name"):
        with pytest.raises(ExecutorError, match=uri):
            executor.check_image(uri)


def test_the_default_command_is_that_of_the_image(
    executor: DockerExecutor, tmp_path: Path, toy_uri: str
) -> None:
    lines: list[str] = []
    container = executor.start(ContainerSpec("job", toy_uri, (), tmp_path), lines.append)
    assert container.wait() == 1
    assert any("hyperparameters.json" in line for line in lines)
    container.remove()


def test_a_container_is_found_by_its_labels(
    executor: DockerExecutor, start: Start, engine: DockerClient, home: Home
) -> None:
    start(executor, "import time; time.sleep(60)")
    label = f"berth.home={home.id}"
    (container,) = engine.containers.list(filters={"label": label})
    assert container.name == f"berth-{home.id}-job"
    assert container.labels["berth.role"] == "python3"


def test_a_container_may_print_nothing_for_longer_than_the_engines_timeout(
    home: Home, start: Start, toy_image: str
) -> None:
    impatient = DockerExecutor(home, client=DockerClient.from_env(timeout=1))
    speaks = "import time; print('one'); time.sleep(1.5); print('two')"
    hangs_up = "import os, time; os.close(1); os.close(2); time.sleep(1.5); os._exit(5)"
    first, second = (
        start(impatient, script, name=name)
        for name, script in (("speaks", speaks), ("hangs-up", hangs_up))
    )
    assert (first.container.wait(), first.lines) == (0, ["one", "two"])
    assert (second.container.wait(), second.lines) == (5, [])


def test_an_engine_that_stops_during_a_job_is_a_one_line_error(
    executor: DockerExecutor,
    start: Start,
    home: Home,
    engine: DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = start(executor, "import time; print('ready'); time.sleep(60)")
    job.until_prints("ready")
    gone = threading.Event()

    def refused(*_args: object, **_options: object) -> None:
        gone.set()
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(SdkContainer, "wait", refused)
    engine.containers.get(f"berth-{home.id}-job").kill()
    assert gone.wait(20)
    with pytest.raises(ExecutorError, match="lost the connection to the Docker engine: .*refused"):
        job.container.wait(20)
    with pytest.raises(ExecutorError, match="lost the connection to the Docker engine"):
        job.container.stop(1)

"""The engine's errors, raised by a fake client."""

import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from local.emulator.executors import ContainerSpec, ExecutorError, ImageMissing
from local.emulator.executors.docker import DockerExecutor
from local.emulator.executors.engine import connect, find_image, sdk_errors
from local.emulator.home import Home


class FakeDockerClient:
    """A client with these images; every call raises `error` once it is set."""

    def __init__(self, *images: str) -> None:
        self.names = images
        self.error: Exception | None = None
        self.images = SimpleNamespace(get=self.get)
        self.containers = SimpleNamespace(create=self.fail, list=self.fail)
        self.networks = SimpleNamespace(list=self.fail, create=self.fail)
        self.api = SimpleNamespace(base_url="http+docker://localhost", create_endpoint_config=dict)
        self.facts: dict[str, object] = {"NCPU": 2, "Architecture": "x86_64"}
        self.architecture = "amd64"
        self.closed = False

    def get(self, name: str) -> SimpleNamespace:
        if self.error:
            raise self.error
        if name not in self.names:
            raise ImageNotFound("no such image")
        attrs = {"Os": "linux", "Architecture": self.architecture}
        return SimpleNamespace(id=f"id of {name}", attrs=attrs)

    def fail(self, *_args: object, **_options: object) -> None:
        raise self.error or AssertionError("not expected")

    def info(self) -> dict[str, object]:
        if self.error:
            raise self.error
        return self.facts

    def close(self) -> None:
        self.closed = True


def broken() -> requests.ConnectionError:
    """Return an error as the SDK raises it, wrapping its cause."""
    error = requests.ConnectionError("('Connection aborted.', FileNotFoundError(2, 'No such'))")
    error.__cause__ = FileNotFoundError(2, "No such file or directory")
    return error


ACCOUNT = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("berth:latest", "berth:latest"),
        (f"{ACCOUNT}/berth:latest", f"{ACCOUNT}/berth:latest"),
        (f"{ACCOUNT}/team/berth:1", "team/berth:1"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com/berth:1", "berth:1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/berth:1", "berth:1"),
        (f"{ACCOUNT}/berth@sha256:ab", "sha256:ab"),
    ],
)
def test_the_local_image_of_a_uri(uri: str, local: str) -> None:
    assert find_image(FakeDockerClient(local), uri).id == f"id of {local}"


def test_an_image_pulled_from_the_registry_takes_precedence() -> None:
    uri = f"{ACCOUNT}/berth:latest"
    assert find_image(FakeDockerClient("berth:latest", uri), uri).id == f"id of {uri}"


@pytest.mark.parametrize("uri", ["berth:1", f"{ACCOUNT}/berth:1", "host:5000/berth:latest"])
def test_a_missing_image_is_never_pulled(uri: str) -> None:
    with pytest.raises(ImageMissing, match=f"image {uri} is not on this machine; build it"):
        find_image(FakeDockerClient("berth:latest"), uri)


def test_an_engines_error_is_one_line() -> None:
    response = SimpleNamespace(status_code=500, url="u", reason="r")
    refusal = APIError("x", response=response, explanation="no space\n left on device\n")
    with pytest.raises(ExecutorError) as caught, sdk_errors():
        raise refusal
    assert str(caught.value) == "Docker error: no space left on device"
    with pytest.raises(ExecutorError) as caught, sdk_errors():
        raise broken()
    assert str(caught.value).startswith(
        "lost the connection to the Docker engine: [Errno 2] No such file"
    )


def test_an_unreachable_engine(tmp_path: Path, toy_uri: str) -> None:
    engine = FakeDockerClient(toy_uri)
    executor = DockerExecutor(Home.find(tmp_path), client=engine)
    engine.error = broken()
    gone = pytest.raises(ExecutorError, match="lost the connection to the Docker engine")
    with gone:
        executor.check_image(toy_uri)
    with gone:
        executor.start(ContainerSpec("job", toy_uri, ("train",), tmp_path), print)
    with gone:
        executor.create_network("job", isolated=False)
    with gone:
        executor.reap()
    executor.remove_network("job")
    with gone:
        DockerExecutor(Home.find(tmp_path), client=engine)


def test_the_client_is_closed_with_the_executor(tmp_path: Path) -> None:
    engine = FakeDockerClient()
    executor = DockerExecutor(Home.find(tmp_path), client=engine)
    assert not engine.closed
    del executor
    assert engine.closed


def test_an_engine_behind_ssh_is_reached_by_its_forwarded_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@192.0.2.7")
    with pytest.raises(
        ExecutorError, match=r"ssh://somebody@192\.0\.2\.7 .*ssh -nNT -L .*unix:///"
    ):
        connect(timeout=2)


def test_no_engine_is_an_error_that_names_the_alternative(tmp_path: Path) -> None:
    """Runs in a separate process, as the SDK leaves the refused socket to the garbage collector."""
    code = (
        "from local.emulator.executors import ExecutorError\n"
        "from local.emulator.executors.engine import connect\n"
        "try: connect(timeout=2)\n"
        "except ExecutorError as error: print(error)"
    )
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    (line,) = output.splitlines()
    assert line.startswith(f"no Docker engine answers at unix://{tmp_path}/none.sock (")
    assert "No such file or directory" in line
    assert line.endswith("start one, or use --executor process")


class FakeRemoteContainer:
    """A container of an engine in another PID namespace, where its pid is another process."""

    def __init__(self, pid: int) -> None:
        self.attrs = {"State": {"Pid": pid, "OOMKilled": False}}
        self.signals: list[str] = []
        self._ended = threading.Event()
        self._output, self._attached = socket.socketpair()

    def attach_socket(self, params: dict[str, int]) -> socket.socket:
        assert params["stdout"] == params["stderr"] == params["stream"] == 1
        return self._attached

    def start(self) -> None:
        pass

    def reload(self) -> None:
        pass

    def top(self, ps_args: str) -> dict[str, object]:
        return {
            "Titles": ["PID", *ps_args.upper().split(",")[1:]],
            "Processes": [[str(self.attrs["State"]["Pid"]), "4000", "0", "0"]],
        }

    def kill(self, signal: str) -> None:
        self.signals.append(signal)
        self._output.close()
        self._ended.set()

    def wait(self, timeout: float | None) -> dict[str, int]:
        assert timeout is None
        self._ended.wait()
        return {"StatusCode": 143}

    def remove(self, **_options: bool) -> None:
        pass


def test_a_pid_of_a_remote_engine_is_not_looked_up_locally(tmp_path: Path) -> None:
    engine = FakeDockerClient("berth")
    executor = DockerExecutor(Home.find(tmp_path / "home"), client=engine)
    spec = ContainerSpec("job", "berth", ("train",), tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as deaf:
        container = FakeRemoteContainer(deaf.pid)
        engine.containers.create = lambda *_args, **_options: container
        running = executor.start(spec, print)
        assert running.stop(grace=5) == 143
        running.remove()
        deaf.communicate(b"\n")
    assert container.signals == ["SIGTERM"]


def test_a_container_removed_by_another_server_counts_as_killed(tmp_path: Path) -> None:
    class FakeRemovedContainer(FakeRemoteContainer):
        def wait(self, timeout: float | None) -> dict[str, int]:
            super().wait(timeout)
            raise NotFound("No such container")

    engine = FakeDockerClient("berth")
    executor = DockerExecutor(Home.find(tmp_path / "home"), client=engine)
    container = FakeRemovedContainer(os.getpid())
    engine.containers.create = lambda *_args, **_options: container
    running = executor.start(ContainerSpec("job", "berth", ("train",), tmp_path), print)
    container.kill("SIGKILL")
    assert running.wait(20) == 137
    running.remove()


class FakeBusyBoxContainer(FakeRemoteContainer):
    """A container of an engine whose `ps` has no signal columns."""

    def __init__(self, *statuses: str) -> None:
        super().__init__(pid=1)
        self.statuses = list(statuses)

    def top(self, ps_args: str) -> dict[str, object]:
        raise APIError(f"ps: bad argument in {ps_args}")

    def exec_run(self, command: list[str]) -> SimpleNamespace:
        assert command == ["cat", "/proc/1/status"]
        assert not self.signals, "the signal came before the handler"
        return SimpleNamespace(exit_code=0, output=self.statuses.pop(0).encode())


def test_signals_are_read_inside_the_container_if_ps_does_not_show_them(tmp_path: Path) -> None:
    deaf = "Name:\tpython3\nSigBlk:\t0000000000000000\nSigIgn:\t0000000001001000\nSigCgt:\t0"
    heeds = deaf.replace("SigCgt:\t0", "SigCgt:\t0000000000004002")
    engine = FakeDockerClient("berth")
    executor = DockerExecutor(Home.find(tmp_path / "home"), client=engine)
    container = FakeBusyBoxContainer(deaf, heeds)
    engine.containers.create = lambda *_args, **_options: container
    running = executor.start(ContainerSpec("job", "berth", ("train",), tmp_path), print)
    assert running.stop(grace=5) == 143
    running.remove()
    assert (container.signals, container.statuses) == (["SIGTERM"], [])


def started_options(engine: FakeDockerClient, spec: ContainerSpec, home: Path) -> dict[str, Any]:
    """Return the options with which a container of the spec is created."""
    created: list[dict[str, Any]] = []

    def create(_image: str, **options: Any) -> None:
        created.append(options)
        raise APIError("stop here")

    engine.containers.create = create
    with pytest.raises(ExecutorError, match="stop here"):
        DockerExecutor(Home.find(home), client=engine).start(spec, print)
    return created[0]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http+docker://localhost", "127.0.0.1"),
        ("http://127.0.0.1:2375", "127.0.0.1"),
        ("https://192.0.2.7:2376", "192.0.2.7"),
    ],
)
def test_a_port_is_published_where_the_engine_is(url: str, address: str, tmp_path: Path) -> None:
    engine = FakeDockerClient("berth")
    engine.api.base_url = url
    spec = ContainerSpec("job", "berth", ("serve",), tmp_path / "a folder", port=8080)
    options = started_options(engine, spec, tmp_path / "home")
    assert options["ports"] == {"8080/tcp": (address, None)}
    assert options["mounts"][0]["Source"] == str(tmp_path / "a folder")


def test_a_container_can_reach_the_engines_host_by_name(tmp_path: Path) -> None:
    engine = FakeDockerClient("berth")
    given = {"MLFLOW_TRACKING_URI": "http://host.docker.internal:5000"}
    plain = ContainerSpec("plain", "berth", ("train",), tmp_path)
    named, isolated = (
        replace(plain, name=name, environment=given, isolated=name == "isolated")
        for name in ("named", "isolated")
    )
    hosts = [
        started_options(engine, spec, tmp_path / "home").get("extra_hosts")
        for spec in (plain, named, isolated)
    ]
    assert hosts == [None, {"host.docker.internal": "host-gateway"}, None]


@pytest.mark.parametrize(
    ("url", "system"),
    [("http+docker://localhost", "Docker Desktop"), ("https://192.0.2.7:2376", "Debian")],
)
def test_an_isolated_server_that_cannot_be_reached_is_refused(
    url: str, system: str, tmp_path: Path
) -> None:
    engine = FakeDockerClient("berth")
    engine.api.base_url = url
    engine.facts["OperatingSystem"] = system
    executor = DockerExecutor(Home.find(tmp_path / "home"), client=engine)
    spec = ContainerSpec("job", "berth", ("serve",), tmp_path, port=8080, isolated=True)
    with pytest.raises(ExecutorError, match="network isolation .*address, which does not work"):
        executor.start(spec, print)
    assert not Home.find(tmp_path / "home").containers_marker.exists()


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_an_image_for_another_architecture_is_logged(architecture: str, tmp_path: Path) -> None:
    engine = FakeDockerClient("berth")
    engine.architecture = architecture
    executor = DockerExecutor(Home.find(tmp_path / "home"), client=engine)
    engine.containers.create = lambda *_args, **_options: FakeRemoteContainer(1)
    lines: list[str] = []
    running = executor.start(ContainerSpec("job", "berth", ("train",), tmp_path), lines.append)
    running.stop(grace=5)
    running.remove()
    said = ["for linux/arm64, but the engine is linux/amd64" in line for line in lines]
    assert said == ([True] if architecture == "arm64" else [])


@pytest.mark.parametrize(
    "message",
    [
        'invalid mount config for type "bind": bind source path does not exist: /x',
        "Mounts denied: The path /x is not shared from the host and is not known to Docker.",
    ],
)
def test_an_engine_without_access_to_the_folder_is_reported(message: str, tmp_path: Path) -> None:
    class FakeRemoteClient(FakeDockerClient):
        def refuse(self, *_args: object, **_options: object) -> None:
            response = requests.Response()
            response.status_code = 400
            raise APIError("400", response, message)

    engine = FakeRemoteClient("berth")
    engine.containers.create = engine.refuse
    executor = DockerExecutor(Home.find(tmp_path / "home"), client=engine)
    spec = ContainerSpec("job", "berth", ("train",), tmp_path)
    with pytest.raises(ExecutorError, match=f"cannot see {tmp_path}: .*engine's socket"):
        executor.start(spec, print)

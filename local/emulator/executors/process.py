"""The executor that runs the image's commands as processes of this Python environment."""

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from container.extras import extra_missing
from local.emulator.executors import (
    Container,
    ContainerSpec,
    ExecutorError,
    ImageMissing,
    shared,
)
from local.emulator.executors.line_buffer import LineBuffer
from local.emulator.executors.process_registry import ProcessRegistry
from local.emulator.home import Home

IMAGE_ENVIRONMENT = {
    "SAGEMAKER_TRAINING_MODULE": "container.train:main",
    "PYTHONUNBUFFERED": "1",
}
"""Environment variables that the image sets for its commands; a request may override them."""
DRAIN_SECONDS = 5.0
"""Wait for the output of a process that ended: a child that escaped may keep it open."""

Commands = Mapping[str, Mapping[str, Sequence[str]]]

_SECRET = re.compile(
    r"^(AWS|SAGEMAKER|SM|BERTH|TRAINING_JOB|MLFLOW|DATABRICKS)_|SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY"
    r"|_KEY$|_PAT$|^SSH_|^DOCKER_",
    re.IGNORECASE,
)
"""The server's variables that a job must not inherit: secrets, and settings the job would read."""

_log = logging.getLogger(__name__)


def repository(image: str) -> str:
    """The last part of an image's repository: `berth` of `host:5000/team/berth:tag@sha256:…`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


class ProcessExecutor:
    """Runs `train` and `serve` as processes; see `Executor`.

    A process has less than a container. Network isolation is not enforced, which its log's first
    line says; nor is `read_only` (the job has its own copy), nor a limit on cores beyond
    `OMP_NUM_THREADS`.

    Args:
        home: whose processes they are.
        commands: last part of the image's repository → verb → the command line; by default this
            project's image with this environment's own `train` and `serve`.
    """

    name = "process"
    max_hosts = 1

    def __init__(self, home: Home, commands: Commands | None = None) -> None:
        self._commands = commands if commands is not None else _own_commands()
        self._registry = ProcessRegistry(home)
        self._lock = threading.Lock()
        self._running: dict[str, RunningProcess | None] = {}
        self._ports: set[int] = set()

    def check_image(self, image: str) -> None:
        """Check that the image's commands are installed; any registry, tag or digest will do.

        Raises:
            ImageMissing: it is another image, or the commands are not installed.
        """
        verbs = self._commands.get(repository(image))
        if verbs is None:
            ours = " and ".join(f"…/{name}:tag" for name in self._commands)
            raise ImageMissing(
                f"the process executor runs only this project's image ({ours}), found {image}; "
                "start with --executor docker"
            )
        for verb, words in verbs.items():
            if shutil.which(words[0]) is None:
                raise ImageMissing(
                    extra_missing(
                        f"{words[0]}, which {verb!r} of {image} runs, is not there", "image"
                    )
                )

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Do nothing: a job of one host has no other to reach."""

    def remove_network(self, name: str) -> None:
        """Do nothing."""

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a process; see `Executor.start`.

        Raises:
            ImageMissing, ExecutorError: it could not be started.
        """
        self.check_image(spec.image)
        words = self._words(spec)
        with self._lock:
            if spec.name in self._running:
                raise ExecutorError(f"{spec.name} exists already; it must be removed first")
            self._running[spec.name] = None
        port = None if spec.port is None else self._take_port()
        try:
            for part, folder in spec.shared.items():
                shared.make(folder)
                shared.link(spec.base, part, folder)
            process = subprocess.Popen(
                words,
                cwd=spec.base,
                env=_environment(spec, port) | self._registry.mark(spec.name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._forget(spec.name, port)
            raise ExecutorError(f"{words[0]} of {spec.image} did not start: {error}") from None
        running = RunningProcess(spec, process, port, on_line, self._registry, self._forget)
        with self._lock:
            self._running[spec.name] = running
        try:
            self._registry.add(spec.name, process.pid)
        except OSError as error:
            running.remove()
            raise ExecutorError(f"{spec.name} cannot be registered: {error}") from None
        return running

    def reap(self) -> list[str]:
        """Kill all processes of an earlier server of this home; their names."""
        names = []
        for entry in self._registry.entries():
            self._registry.kill(entry.name, entry.process())
            self._registry.remove(entry.name)
            names.append(entry.name)
        self._registry.kill()
        return names

    def _words(self, spec: ContainerSpec) -> list[str]:
        """The command line: the verb's words and further arguments.

        Raises:
            ExecutorError: the request's command is not one of the image's verbs.
        """
        verb, *arguments = (*(spec.entrypoint or ()), *spec.command) or ("train",)
        verbs = self._commands[repository(spec.image)]
        if verb not in verbs:
            raise ExecutorError(
                f"{spec.image} has no {verb!r}: the process executor runs only "
                f"{' and '.join(sorted(verbs))}; start with --executor docker"
            )
        return [*verbs[verb], *arguments]

    def _take_port(self) -> int:
        """A free port that no other process of this executor has."""
        with self._lock:
            while True:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    port = int(probe.getsockname()[1])
                if port not in self._ports:
                    self._ports.add(port)
                    return port

    def _forget(self, name: str, port: int | None) -> None:
        with self._lock:
            self._running.pop(name, None)
            self._ports.discard(port or 0)


class RunningProcess:
    """A process that was started, with all its children; see `Container`."""

    def __init__(
        self,
        spec: ContainerSpec,
        process: "subprocess.Popen[bytes]",
        port: int | None,
        on_line: Callable[[str], None],
        registry: ProcessRegistry,
        forget: Callable[[str, int | None], None],
    ) -> None:
        self._spec, self._process, self._port = spec, process, port
        self._registry, self._forget = registry, forget
        self._first = psutil.Process(process.pid)
        self._removed = False
        self._lines = LineBuffer(on_line)
        self._ended = threading.Event()
        self._reader = threading.Thread(
            target=self._read, name=f"output of {spec.name}", daemon=True
        )
        self._reader.start()
        threading.Thread(target=self._watch, name=f"end of {spec.name}", daemon=True).start()

    @property
    def name(self) -> str:
        """The spec's name."""
        return self._spec.name

    @property
    def address(self) -> tuple[str, int]:
        """Loopback and the port it listens on.

        Raises:
            ExecutorError: its spec names no port.
        """
        if self._port is None:
            raise ExecutorError(f"{self.name} listens on no port")
        return "127.0.0.1", self._port

    @property
    def base(self) -> str:
        """Its folder on this machine."""
        return str(self._spec.base)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status, 128 + the signal's number if one ended it; None after `timeout` s."""
        if not self._ended.wait(timeout):
            return None
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def stop(self, grace: float) -> int:
        """Send SIGTERM to the first process, and SIGKILL to all after `grace` seconds."""
        self._process.send_signal(signal.SIGTERM)
        if self.wait(grace) is None:
            self._registry.kill(self.name, self._first)
        status = self.wait()
        assert status is not None  # noqa: S101  # without a timeout it waits
        return status

    def remove(self) -> None:
        """Kill what still runs and unregister it; the caller owns its files already."""
        if self._removed:
            return  # another process may have its name by now
        self._removed = True
        if not self._ended.is_set():
            self._registry.kill(self.name, self._first)
            self._ended.wait()
        self._registry.remove(self.name)
        self._forget(self.name, self._port)

    def _read(self) -> None:
        """The thread that delivers the lines."""
        output = self._process.stdout
        assert output is not None  # noqa: S101  # it is a pipe
        if self._spec.isolated:
            self._lines.emit(
                "berth: network isolation is not enforced for a plain process; "
                "--executor docker enforces it"
            )
        while data := os.read(output.fileno(), 65536):
            self._lines.feed(data)
        self._lines.close()
        output.close()

    def _watch(self) -> None:
        """The thread that waits for its end, then kills its children, as a container's end does."""
        self._process.wait()
        try:
            self._registry.kill(self.name)
            self._reader.join(DRAIN_SECONDS)
            if self._reader.is_alive():
                _log.warning("%s: a child that outlived it keeps its output open", self.name)
        finally:
            self._ended.set()


def _own_commands() -> Commands:
    """This environment's `train` and `serve`.

    `train` is run by its module: the toolkit's command of the same name may have replaced it.
    """
    serve = Path(sys.executable).parent / "serve"
    return {"berth": {"train": [sys.executable, "-P", "-m", "container"], "serve": [str(serve)]}}


def _environment(spec: ContainerSpec, port: int | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    given = dict(IMAGE_ENVIRONMENT)
    if spec.cpus is not None:
        given |= {"OMP_NUM_THREADS": str(spec.cpus), "OMP_WAIT_POLICY": "PASSIVE"}
    if not spec.gpus:
        given["CUDA_VISIBLE_DEVICES"] = ""
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
    environment = inherited | {"PATH": path} | given | dict(spec.environment)
    environment["SAGEMAKER_BASE_DIR"] = str(spec.base)
    if port is not None:
        environment |= {"SAGEMAKER_BIND_TO_PORT": str(port), "BERTH_BIND_HOST": "127.0.0.1"}
    return environment

"""The executor that runs the image's commands as processes in this Python environment."""

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
"""Environment variables that the image sets; a request may override them."""
DRAIN_SECONDS = 5.0
"""Seconds to wait for the rest of an ended process's output, if a child keeps it open."""

Commands = Mapping[str, Mapping[str, Sequence[str]]]

_SECRET = re.compile(
    r"^(AWS|SAGEMAKER|SM|BERTH|TRAINING_JOB|MLFLOW|DATABRICKS)_|SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY"
    r"|_KEY$|_PAT$|^SSH_|^DOCKER_",
    re.IGNORECASE,
)
"""Variables that a job must not inherit from the server: secrets, and settings that it reads."""

_log = logging.getLogger(__name__)


def repository(image: str) -> str:
    """The repository name of an image: `berth` for `host:5000/team/berth:tag@sha256:…`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


class ProcessExecutor:
    """Runs `train` and `serve` as processes; see `Executor`.

    Processes lack some features of containers. Network isolation is not enforced; the first log
    line says so. `read_only` is not enforced either (the job has its own copy), and cores are only
    limited by `OMP_NUM_THREADS`.

    Args:
        home: the home.
        commands: command lines by repository name and verb; None for berth's image with this
            environment's `train` and `serve`.
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
        """Check that the image's commands are installed; registry, tag and digest do not matter.

        Raises:
            ImageMissing: it is another image, or the commands are not installed.
        """
        verbs = self._commands.get(repository(image))
        if verbs is None:
            ours = " and ".join(f"…/{name}:tag" for name in self._commands)
            raise ImageMissing(
                f"the process executor only runs the berth image ({ours}), found {image}; "
                "use --executor docker"
            )
        for verb, words in verbs.items():
            if shutil.which(words[0]) is None:
                raise ImageMissing(
                    extra_missing(
                        f"{words[0]}, the command of {image}'s {verb!r}, is not installed", "image"
                    )
                )

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Do nothing: jobs have only one host."""

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
                raise ExecutorError(f"{spec.name} already exists; it must be removed first")
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
        """Kill all processes of an earlier server of this home; return their names."""
        names = []
        for entry in self._registry.entries():
            self._registry.kill(entry.name, entry.process())
            self._registry.remove(entry.name)
            names.append(entry.name)
        self._registry.kill()
        return names

    def _words(self, spec: ContainerSpec) -> list[str]:
        """The command line: the verb's command and further arguments.

        Raises:
            ExecutorError: the request's command is not one of the image's verbs.
        """
        verb, *arguments = (*(spec.entrypoint or ()), *spec.command) or ("train",)
        verbs = self._commands[repository(spec.image)]
        if verb not in verbs:
            raise ExecutorError(
                f"{spec.image} has no {verb!r}: the process executor only runs "
                f"{' and '.join(sorted(verbs))}; use --executor docker"
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
    """A started process with its children; see `Container`."""

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
        """The loopback address and the port it listens on.

        Raises:
            ExecutorError: its spec has no port.
        """
        if self._port is None:
            raise ExecutorError(f"{self.name} does not listen on a port")
        return "127.0.0.1", self._port

    @property
    def base(self) -> str:
        """Its folder on this machine."""
        return str(self._spec.base)

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status, or 128 + a signal's number; None after `timeout` seconds."""
        if not self._ended.wait(timeout):
            return None
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def stop(self, grace: float) -> int:
        """Send SIGTERM to the first process, and after `grace` seconds SIGKILL to all."""
        self._process.send_signal(signal.SIGTERM)
        if self.wait(grace) is None:
            self._registry.kill(self.name, self._first)
        status = self.wait()
        assert status is not None  # noqa: S101  # it has no timeout
        return status

    def remove(self) -> None:
        """Kill and unregister the process; its files already belong to the user."""
        if self._removed:
            return  # a new process may have its name now
        self._removed = True
        if not self._ended.is_set():
            self._registry.kill(self.name, self._first)
            self._ended.wait()
        self._registry.remove(self.name)
        self._forget(self.name, self._port)

    def _read(self) -> None:
        """Run in a thread: deliver the lines."""
        output = self._process.stdout
        assert output is not None  # noqa: S101  # it is a pipe
        if self._spec.isolated:
            self._lines.emit(
                "berth: network isolation is not enforced for processes; use --executor docker"
            )
        while data := os.read(output.fileno(), 65536):
            self._lines.feed(data)
        self._lines.close()
        output.close()

    def _watch(self) -> None:
        """Run in a thread: wait for the end, then kill remaining children, as in a container."""
        self._process.wait()
        try:
            self._registry.kill(self.name)
            self._reader.join(DRAIN_SECONDS)
            if self._reader.is_alive():
                _log.warning("%s: a remaining child keeps its output open", self.name)
        finally:
            self._ended.set()


def _own_commands() -> Commands:
    """This environment's `train` and `serve`.

    `train` is run as a module, because sagemaker-training may have replaced the command.
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

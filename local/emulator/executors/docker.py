"""The image's containers on a Docker engine."""

import logging
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types import DeviceRequest, Mount
from docker.utils.socket import STDERR, frames_iter

from local.emulator.executors import Container, ContainerSpec, ExecutorError
from local.emulator.executors.aftermath import note_of, said_file
from local.emulator.executors.engine import answers, connect, find_image
from local.emulator.executors.leftovers import home_id
from local.emulator.executors.lines import Lines
from local.emulator.executors.ownership import hand_back
from local.emulator.executors.signals import COLUMNS, heeds
from local.emulator.home import Home

HOME_LABEL = "berth.home"
ROLE_LABEL = "berth.role"
BASE_LABEL = "berth.base"
KILLED = 137
"""128 + SIGKILL: the status of a container that was removed before it told its own."""
KILL_SECONDS = 60.0
"""How long a killed container may take to be gone, before that is an error."""
EARS_SECONDS = 0.1
"""Between two looks whether a container notices SIGTERM yet."""

_log = logging.getLogger(__name__)


class DockerExecutor:
    """Runs containers; see `Executor`.

    All carry the home's label and are named `berth-<home's id>-<name>`. An isolated container has
    no network at all, or, with a port or other hosts, one without a way out; it is then reached at
    its own address, which only Linux routes.

    Args:
        home: whose containers they are.
        owner: uid and gid that get the files containers write; the home folder's by default.
        client: a client of the engine, instead of the one `docker` would use.

    Raises:
        ExecutorError: no engine answers.
    """

    name = "docker"
    max_hosts = 32

    def __init__(
        self, home: Home, *, owner: tuple[int, int] | None = None, client: Any = None
    ) -> None:
        status = home.path.stat()
        self._owner = owner or (status.st_uid, status.st_gid)
        self._id = home_id(home)
        self._note = note_of(home)
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._client = client or connect()
        weakref.finalize(self, self._client.close)
        with answers():
            self._engine: dict[str, Any] = self._client.info()

    def check_image(self, image: str) -> None:
        """Make sure the engine has the image; it is never pulled.

        Raises:
            ImageMissing: it has not.
            ExecutorError: the engine does not answer.
        """
        find_image(self._client, image)

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Make a private network; an isolated one has no way out.

        Raises:
            ExecutorError: the engine cannot.
        """
        self._hold(f"network {name}")
        with answers():
            self._client.networks.create(
                self._full(name),
                driver="bridge",
                internal=isolated,
                check_duplicate=True,
                labels={HOME_LABEL: self._id},
            )

    def remove_network(self, name: str) -> None:
        """Remove it; one that is not there, or an engine that is gone, is no error."""
        try:
            for network in self._client.networks.list(names=[f"^{re.escape(self._full(name))}$"]):
                network.remove()
        except NotFound:
            pass
        except Exception as error:
            _log.warning("network %s was not removed: %s", name, error)
            return
        self.release(f"network {name}")

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a container; see `Executor.start`.

        Raises:
            ImageMissing, ExecutorError: it could not be started.
        """
        image = find_image(self._client, spec.image)
        try:
            options = self._options(spec)
        except OSError as error:
            raise ExecutorError(f"{spec.name} did not start: {error}") from None
        self._hold(spec.name)
        own_network = spec.name if _needs_own_network(spec) else None
        if own_network:
            self.create_network(own_network, isolated=True)
        running = None
        try:
            with answers():
                container = self._client.containers.create(image, **options)
                running = RunningContainer(self, spec, image, container)
                running.follow(on_line)
        except ExecutorError as error:
            if running is not None:
                running.remove()
            elif own_network:
                self.remove_network(own_network)
            raise _in_words(spec, str(error)) from None
        return running

    def reap(self) -> list[str]:
        """Remove every container and network with this home's label; their names.

        What a container printed is put into its `said_file`.

        Raises:
            ExecutorError: the engine does not answer.
        """
        names = []
        ours = {"label": f"{HOME_LABEL}={self._id}"}
        with answers():
            for container in self._client.containers.list(
                all=True, filters=ours, ignore_removed=True
            ):
                names.append(container.name.removeprefix(self._full("")))
                _keep_said(container)
                self.discard(container, container.attrs["Image"], _base(container))
            for network in self._client.networks.list(filters=ours):
                names.append(network.name.removeprefix(self._full("")))
                network.remove()
        with self._lock:
            self._held.clear()
            self._note.unlink(missing_ok=True)
        return names

    def discard(self, container: Any, image: str, base: Path) -> None:
        """Remove a container, running or not, and hand its files back."""
        try:
            container.remove(force=True, v=True)
        except NotFound:
            pass
        except APIError as error:
            if error.status_code != 409:  # somebody else is removing it already
                raise
        hand_back(self._client, image, base, self._owner, self._labels("hand back", base))

    def published(self, container: Any, spec: ContainerSpec) -> tuple[str, int] | None:
        """Where the spec's port is reached from here; None if it ended already."""
        container.reload()
        settings = container.attrs["NetworkSettings"]
        bindings = (settings["Ports"] or {}).get(f"{spec.port}/tcp")
        if bindings:
            return "127.0.0.1", int(bindings[0]["HostPort"])
        for network in settings["Networks"].values():
            if network["IPAddress"] and spec.port is not None:
                return str(network["IPAddress"]), spec.port
        return None

    def _options(self, spec: ContainerSpec) -> dict[str, Any]:
        role = (*(spec.entrypoint or ()), *spec.command, "default")[0]
        environment = dict(spec.environment)
        options: dict[str, Any] = {
            "name": self._full(spec.name),
            "command": list(spec.command) or None,
            "environment": environment,
            "hostname": spec.hostname,
            "labels": self._labels(role, spec.base),
            "mounts": _mounts(spec),
            "shm_size": spec.shm_size,
            "detach": True,
        }
        if spec.entrypoint is not None:
            options["entrypoint"] = list(spec.entrypoint)
        if spec.cpus is not None:
            options["nano_cpus"] = min(spec.cpus, self._engine["NCPU"]) * 10**9
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if not spec.gpus:
            environment.setdefault("NVIDIA_VISIBLE_DEVICES", "void")
        elif "nvidia" in self._engine.get("Runtimes", {}):
            everything = DeviceRequest(count=-1, capabilities=[["gpu"]])
            options["device_requests"] = [everything]
        return options | self._networking(spec)

    def _networking(self, spec: ContainerSpec) -> dict[str, Any]:
        if spec.isolated and spec.network is None and spec.port is None:
            return {"network_mode": "none"}
        options: dict[str, Any] = {}
        network = spec.name if _needs_own_network(spec) else spec.network
        if network is not None:
            full = self._full(network)
            endpoint = self._client.api.create_endpoint_config(aliases=[spec.hostname])
            options |= {"network": full, "networking_config": {full: endpoint}}
        if spec.port is not None and not spec.isolated:
            options["ports"] = {f"{spec.port}/tcp": ("127.0.0.1", None)}
        return options

    def _labels(self, role: str, base: Path) -> dict[str, str]:
        return {HOME_LABEL: self._id, ROLE_LABEL: role, BASE_LABEL: str(base)}

    def _full(self, name: str) -> str:
        return f"berth-{self._id}-{name}"

    def _hold(self, name: str) -> None:
        """Note that something of this home's is about to be on the engine.

        Raises:
            ExecutorError: the note cannot be written.
        """
        try:
            with self._lock:
                self._held.add(name)
                self._note.touch()
        except OSError as error:
            raise ExecutorError(f"{name} cannot be kept on file: {error}") from None

    def release(self, name: str) -> None:
        """What was noted is not on the engine any more."""
        with self._lock:
            self._held.discard(name)
            if not self._held:
                self._note.unlink(missing_ok=True)


class RunningContainer:
    """A container that was started; see `Container`."""

    def __init__(
        self, executor: DockerExecutor, spec: ContainerSpec, image: str, container: Any
    ) -> None:
        self._executor, self._spec, self._image = executor, spec, image
        self._container = container
        self._address: tuple[str, int] | None = None
        self._status = KILLED
        self._error: ExecutorError | None = None
        self._removed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, on_line: Callable[[str], None]) -> None:
        """Start it; its output is attached to before, so that none of it is missed."""
        output = self._container.attach_socket(params={"stdout": 1, "stderr": 1, "stream": 1})
        try:
            self._container.start()
        except BaseException:
            _close(output)
            raise
        self._thread = threading.Thread(
            target=self._read, args=(output, on_line), name=f"output of {self.name}", daemon=True
        )
        self._thread.start()
        if self._spec.port is not None:
            self._address = self._executor.published(self._container, self._spec)

    @property
    def name(self) -> str:
        """The spec's name."""
        return self._spec.name

    @property
    def address(self) -> tuple[str, int]:
        """Loopback and the published port; the container's own address if it is isolated.

        Raises:
            ExecutorError: its spec names no port, or it ended as soon as it was started.
        """
        if self._address is None:
            raise ExecutorError(f"{self.name} listens on no port")
        return self._address

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status once all its lines were delivered; None after `timeout` seconds.

        Raises:
            ExecutorError: the engine is gone, so nobody knows.
        """
        if not self._ended.wait(timeout):
            return None
        if self._error is not None:
            raise self._error
        return self._status

    def stop(self, grace: float) -> int:
        """SIGTERM, SIGKILL after `grace` seconds if it still runs; its exit status.

        SIGTERM is sent once the container's first process would not lose it, and the grace counts
        from there; one that never would is killed after the grace.

        Raises:
            ExecutorError: the engine is gone, or the container cannot be killed.
        """
        heard, status = self._wait_for_ears(time.monotonic() + grace)
        if status is None:
            self._signal("SIGTERM")
            status = self.wait(grace if heard else 0.0)
        if status is None:
            self._signal("SIGKILL")
            status = self.wait(KILL_SECONDS)
        if status is None:
            raise ExecutorError(f"{self.name} still runs {KILL_SECONDS:.0f} s after SIGKILL")
        return status

    def remove(self) -> None:
        """Kill it if it still runs, forget it, and give its files in `base` to the caller.

        An engine that is gone is logged only: `reap` finds what it has left.
        """
        if self._removed:
            return  # by now another may have its name
        self._removed = True
        try:
            self._executor.discard(self._container, self._image, self._spec.base)
        except Exception as error:
            _log.warning("container %s was not removed: %s", self.name, error)
        else:
            self._executor.release(self.name)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(KILL_SECONDS)
        if _needs_own_network(self._spec):
            self._executor.remove_network(self._spec.name)

    def _wait_for_ears(self, deadline: float) -> tuple[bool, int | None]:
        """Wait until SIGTERM would be noticed: whether it is, and the exit status if it ended."""
        while not self._has_ears():
            if time.monotonic() > deadline:
                return False, None
            status = self.wait(EARS_SECONDS)
            if status is not None:
                return True, status
        return True, None

    def _has_ears(self) -> bool:
        """Whether the container's first process would notice SIGTERM; True if nobody can tell."""
        try:
            self._container.reload()
            pid = self._container.attrs["State"]["Pid"]
            # The engine is asked: its numbers of processes mean nothing anywhere else.
            return heeds(self._container.top(ps_args=f"-o {COLUMNS}"), pid, signal.SIGTERM)
        except Exception as error:
            # It ended, the engine did (`wait` tells), or its `ps` knows no such columns.
            _log.debug("%s: does it notice SIGTERM? %s", self.name, error)
            return True

    def _signal(self, name: str) -> None:
        try:
            with answers():
                self._container.kill(signal=name)
        except ExecutorError:
            # It ended meanwhile, or the engine did: `wait` tells.
            _log.debug("%s did not get %s", self.name, name, exc_info=True)

    def _read(self, output: Any, on_line: Callable[[str], None]) -> None:
        """The thread that delivers the lines, then learns how it ended."""
        out, err = Lines(on_line), Lines(on_line)
        try:
            for stream, data in frames_iter(output, tty=False):
                (err if stream == STDERR else out).feed(data)
        except OSError as error:
            _log.debug("%s: the output broke off: %s", self.name, error)
        finally:
            _close(output)
        out.close()
        err.close()
        try:
            with answers():
                self._status = self._end(out)
        except ExecutorError as error:
            if not self._removed:
                self._error = error
        finally:
            self._ended.set()

    def _end(self, log: Lines) -> int:
        """Its exit status, as soon as it has one. Out of memory is said in its log."""
        status = int(self._container.wait(timeout=None)["StatusCode"])
        self._container.reload()
        if self._container.attrs["State"]["OOMKilled"]:
            log.say("berth: the container was killed: out of memory")
        return status


def _needs_own_network(spec: ContainerSpec) -> bool:
    """An isolated server: reached from here, and nothing reached from it."""
    return spec.isolated and spec.network is None and spec.port is not None


def _mounts(spec: ContainerSpec) -> list[Any]:
    mounts = [Mount("/opt/ml", str(spec.base), type="bind")]
    for part in spec.read_only:
        source = spec.base / part
        if not source.exists():
            source.mkdir(parents=True)
        mounts.append(Mount(f"/opt/ml/{part}", str(source), type="bind", read_only=True))
    return mounts


def _close(output: Any) -> None:
    """Close an attached stream and the socket below it, which the SDK leaves open."""
    connection = getattr(output, "_sock", None)
    output.close()
    if connection is not None:
        connection.close()


def _keep_said(container: Any) -> None:
    """Put what a container printed beside its folder; that it cannot be is logged only."""
    path = said_file(_base(container))
    try:
        if path.parent.is_dir():
            with path.open("wb") as file:
                file.writelines(container.logs(stream=True, follow=False))
    except (DockerException, requests.RequestException, OSError) as error:
        path.unlink(missing_ok=True)
        _log.warning("what %s said is lost: %s", container.name, error)


def _base(container: Any) -> Path:
    return Path(container.labels[BASE_LABEL])


def _in_words(spec: ContainerSpec, line: str) -> ExecutorError:
    """Why a container did not start; an image without the command says so itself."""
    missing = ("executable file not found", "no such file or directory", "permission denied")
    words = (*(spec.entrypoint or ()), *spec.command)
    if words and f'exec: "{words[0]}"' in line and any(why in line for why in missing):
        why = line.rpartition("exec: ")[2].removesuffix(": unknown")
        return ExecutorError(f"image {spec.image} has no {words[0]!r} that can be run: {why}")
    if "bind source path does not exist" in line and spec.base.exists():
        return ExecutorError(
            f"{spec.name} did not start: the Docker engine does not see {spec.base}, which is "
            "here: it is on another machine, or this is a container with the engine's socket, "
            "whose paths are the engine's; mount the home at the same path in both, or "
            "use --executor process"
        )
    return ExecutorError(f"{spec.name} of image {spec.image} did not start: {line}")

"""The executor that runs the image as containers of a Docker engine."""

import logging
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError, DockerException, NotFound
from docker.types import DeviceRequest, Mount

from local import platforms
from local.emulator.executors import Container, ContainerSpec, ExecutorError, saved_output
from local.emulator.executors.docker_container import DockerContainer
from local.emulator.executors.engine import connect, find_image, sdk_errors
from local.emulator.executors.engine_host import find_engine_host
from local.emulator.executors.ownership import change_owner
from local.emulator.executors.shared import SharedFolders, make_mount_point
from local.emulator.home import Home

HOST_NAME = "host.docker.internal"
"""Name of the engine's machine in containers, as in Docker Desktop."""
HOME_LABEL = "berth.home"
ROLE_LABEL = "berth.role"
BASE_LABEL = "berth.base"

_log = logging.getLogger(__name__)


class DockerExecutor:
    """Runs containers of a Docker engine; see `Executor`.

    They have the home's label and are named `berth-<home's id>-<name>`. An isolated container has
    no network or, with a port or other hosts, an internal one. Ports cannot be published from an
    internal network, so an isolated server is only reachable by its container's address, from the
    Linux machine of the engine.

    Bind mounts use paths of the engine's machine, which must be this machine, a virtual machine
    that shares the home's folder, or a machine that has it at the same path.

    Args:
        home: the home.
        owner: uid and gid for the files that containers write; None for the home folder's.
        client: an engine client; None for the engine that the `docker` command uses.

    Raises:
        ExecutorError: no engine is reachable.
    """

    name = "docker"
    max_hosts = 32

    def __init__(
        self, home: Home, *, owner: tuple[int, int] | None = None, client: Any = None
    ) -> None:
        status = home.path.stat()
        self._owner = owner or (status.st_uid, status.st_gid)
        self._id = home.id
        self._marker = home.containers_marker
        self._shared, self._cache = SharedFolders(), home.warm_pool_cache
        self._marked: set[str] = set()
        self._lock = threading.Lock()
        self._client = client or connect()
        weakref.finalize(self, self._client.close)
        with sdk_errors():
            self._engine: dict[str, Any] = self._client.info()
            self._host = find_engine_host(self._client.api.base_url, self._engine)

    def check_image(self, image: str) -> None:
        """Check that the engine has the image; it is never pulled.

        Raises:
            ImageMissing: it does not.
            ExecutorError: the engine does not respond.
        """
        find_image(self._client, image)

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Create a private network; an isolated one is internal.

        Raises:
            ExecutorError: the engine could not create it.
        """
        self._mark(f"network {name}")
        with sdk_errors():
            self._client.networks.create(
                self._full(name),
                driver="bridge",
                internal=isolated,
                check_duplicate=True,
                labels={HOME_LABEL: self._id},
            )

    def remove_network(self, name: str) -> None:
        """Remove a network; a missing network or engine is not an error."""
        try:
            for network in self._client.networks.list(names=[f"^{re.escape(self._full(name))}$"]):
                network.remove()
        except NotFound:
            pass
        except Exception as error:
            _log.warning("network %s was not removed: %s", name, error)
            return
        self._unmark(f"network {name}")

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a container; see `Executor.start`.

        Raises:
            ImageMissing, ExecutorError: it could not be started.
        """
        image = find_image(self._client, spec.image)
        if _needs_own_network(spec) and not self._host.routed:
            raise ExecutorError(
                f"{spec.name} did not start: with network isolation a server is only reachable by "
                "its container's address, which does not work from here (Docker Desktop, or an "
                "engine on another machine); turn isolation off, or use --executor process"
            )
        native = platforms.of_engine(self._engine)
        if image.platform and native and image.platform != native:
            on_line(
                f"berth: {spec.image} is for {image.platform}, but the engine is {native}: it runs "
                "slowly in an emulator, or fails if there is none"
            )
        self._mark(spec.name)
        own_network = spec.name if _needs_own_network(spec) else None
        if own_network:
            self.create_network(own_network, isolated=True)
        running, user = None, object()
        try:
            options = self._options(spec)
            self._shared.acquire(user, spec.shared.values())
            with sdk_errors():
                container = self._client.containers.create(image.id, **options)
                running = DockerContainer(
                    spec, container, lambda: self._remove(spec, image.id, container, user)
                )
                running.start(on_line)
        except (ExecutorError, OSError) as error:
            if running is not None:
                running.remove()
            else:
                self._release(user, image.id)
                if own_network:
                    self.remove_network(own_network)
            raise _start_error(spec, error) from None
        return running

    def reap(self) -> list[str]:
        """Remove every container and network with this home's label; return their names.

        The output of each container is written to `saved_output`.

        Raises:
            ExecutorError: the engine does not respond.
        """
        names, image = [], None
        ours = {"label": f"{HOME_LABEL}={self._id}"}
        with sdk_errors():
            for container in self._client.containers.list(
                all=True, filters=ours, ignore_removed=True
            ):
                names.append(container.name.removeprefix(self._full("")))
                _save_output(container)
                image = container.attrs["Image"]
                self._discard(container, image, _base(container))
            if image is not None:
                self._hand_back(image, self._cache)
            for network in self._client.networks.list(filters=ours):
                names.append(network.name.removeprefix(self._full("")))
                network.remove()
        with self._lock:
            self._marked.clear()
            self._marker.unlink(missing_ok=True)
        return names

    def _remove(self, spec: ContainerSpec, image: str, container: Any, user: object) -> None:
        """Remove a container of `start`; if the engine does not respond, leave it to `reap`."""
        try:
            self._discard(container, image, spec.base)
        except Exception as error:
            _log.warning("container %s was not removed: %s", spec.name, error)
        else:
            self._unmark(spec.name)
        self._release(user, image)
        if _needs_own_network(spec):
            self.remove_network(spec.name)

    def _discard(self, container: Any, image: str, base: Path) -> None:
        """Remove a container, running or not, and change the owner of its files."""
        try:
            container.remove(force=True, v=True)
        except NotFound:
            pass
        except APIError as error:
            if error.status_code != 409:  # its removal is already in progress
                raise
        self._hand_back(image, base)

    def _release(self, user: object, image: str) -> None:
        """Release the folders that a container shared with others."""
        self._shared.release(user, lambda folder: self._hand_back(image, folder))

    def _hand_back(self, image: str, folder: Path) -> None:
        """Make the home's owner own everything in a folder, with a container of the image."""
        change_owner(
            self._client,
            image,
            folder,
            self._owner,
            self._labels("hand back", folder),
            self._engine.get("SecurityOptions") or (),
        )

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
        if not spec.isolated and any(HOST_NAME in value for value in spec.environment.values()):
            options["extra_hosts"] = {HOST_NAME: "host-gateway"}
        if spec.port is not None and not spec.isolated:
            options["ports"] = {f"{spec.port}/tcp": (self._host.address, None)}
        return options

    def _labels(self, role: str, base: Path) -> dict[str, str]:
        return {HOME_LABEL: self._id, ROLE_LABEL: role, BASE_LABEL: str(base)}

    def _full(self, name: str) -> str:
        return f"berth-{self._id}-{name}"

    def _mark(self, name: str) -> None:
        """Create the home's marker before a container or network is created on the engine.

        Raises:
            ExecutorError: the marker cannot be written.
        """
        try:
            with self._lock:
                self._marked.add(name)
                self._marker.touch()
        except OSError as error:
            raise ExecutorError(f"{name} cannot be registered: {error}") from None

    def _unmark(self, name: str) -> None:
        """Remove the home's marker if this was the last container or network on the engine."""
        with self._lock:
            self._marked.discard(name)
            if not self._marked:
                self._marker.unlink(missing_ok=True)


def _needs_own_network(spec: ContainerSpec) -> bool:
    """Whether it is an isolated server: reachable, but without outbound network access."""
    return spec.isolated and spec.network is None and spec.port is not None


def _mounts(spec: ContainerSpec) -> list[Any]:
    mounts = [Mount("/opt/ml", str(spec.base), type="bind")]
    for part in spec.read_only:
        source = spec.base / part
        if not source.exists():
            source.mkdir(parents=True)
        mounts.append(Mount(f"/opt/ml/{part}", str(source), type="bind", read_only=True))
    for part, source in spec.shared.items():
        make_mount_point(spec.base, part)
        mounts.append(Mount(f"/opt/ml/{part}", str(source), type="bind"))
    return mounts


def _save_output(container: Any) -> None:
    """Write a container's output to `saved_output`; a failure is only logged."""
    path = saved_output(_base(container))
    try:
        if path.parent.is_dir():
            with path.open("wb") as file:
                file.writelines(container.logs(stream=True, follow=False))
    except (DockerException, requests.RequestException, OSError) as error:
        path.unlink(missing_ok=True)
        _log.warning("the output of %s is lost: %s", container.name, error)


def _base(container: Any) -> Path:
    return Path(container.labels[BASE_LABEL])


def _start_error(spec: ContainerSpec, error: ExecutorError | OSError) -> ExecutorError:
    """The reason why a container did not start, from the engine's or the system's message."""
    line = str(error)
    if isinstance(error, OSError):
        return ExecutorError(f"{spec.name} did not start: {line}")
    missing = ("executable file not found", "no such file or directory", "permission denied")
    words = (*(spec.entrypoint or ()), *spec.command)
    if words and f'exec: "{words[0]}"' in line and any(why in line for why in missing):
        why = line.rpartition("exec: ")[2].removesuffix(": unknown")
        return ExecutorError(f"image {spec.image} has no executable {words[0]!r}: {why}")
    unseen = ("bind source path does not exist", "Mounts denied", "is not shared from the host")
    if any(why in line for why in unseen) and spec.base.exists():
        return ExecutorError(
            f"{spec.name} did not start: the Docker engine cannot see {spec.base}: it is in a "
            "virtual machine that does not share the folder (Docker Desktop: Settings, Resources, "
            "File sharing), on another machine, or this is a container with the engine's socket; "
            "share the home, mount it at the same path in both, choose another home with "
            "BERTH_HOME, or use --executor process"
        )
    return ExecutorError(f"{spec.name} of image {spec.image} did not start: {line}")

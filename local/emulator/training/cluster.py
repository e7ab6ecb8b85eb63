"""The containers of a job, one per host, which are started, stopped and removed together."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from local.emulator.executors import Container, ContainerSpec, Executor, ExecutorError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostEnded:
    """A host's container ended with this exit status."""

    rank: int
    status: int
    cluster: "Cluster" = field(repr=False)


@dataclass(frozen=True)
class HostLost:
    """The state of a host's container is unknown, because the engine does not respond."""

    rank: int
    line: str
    cluster: "Cluster" = field(repr=False)


class Cluster:
    """The hosts of a job.

    Args:
        executor: runs the containers.
        specs: the containers, one per host, in order.
        network: name of the private network to create; None for a single host.
        on_line: called with a host's rank and each line of its output, from a thread per host.
        report: called when a host ends or is lost, from a thread per host.
    """

    def __init__(
        self,
        executor: Executor,
        specs: Sequence[ContainerSpec],
        network: str | None,
        on_line: Callable[[int, str], None],
        report: Callable[[HostEnded | HostLost], None],
    ) -> None:
        self._executor, self._specs, self._network = executor, specs, network
        self._on_line, self._report = on_line, report
        self._containers: list[Container] = []
        self._has_network = False

    def start(self) -> None:
        """Start all containers; call `remove` afterwards, also after an error.

        Raises:
            ImageMissing, ExecutorError: a container could not be started.
        """
        if self._network is not None:
            self._executor.create_network(self._network, isolated=self._specs[0].isolated)
            self._has_network = True
        for rank, spec in enumerate(self._specs):
            self._containers.append(self._executor.start(spec, self._listener(rank)))
        for rank, container in enumerate(self._containers):
            threading.Thread(
                target=self._wait, args=(rank, container), name=f"{container.name} end", daemon=True
            ).start()

    def stop(self, grace: float) -> None:
        """Send SIGTERM to all containers, and SIGKILL after `grace` seconds."""
        threads = [
            threading.Thread(target=_stop, args=(container, grace), daemon=True)
            for container in self._containers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def remove(self) -> None:
        """Kill and remove the containers and their network; errors are only logged."""
        for container in self._containers:
            try:
                container.remove()
            except ExecutorError as error:
                _log.warning("%s was not removed: %s", container.name, error)
        if self._has_network and self._network is not None:
            try:
                self._executor.remove_network(self._network)
            except ExecutorError as error:
                _log.warning("network %s was not removed: %s", self._network, error)
        self._containers, self._has_network = [], False

    def _listener(self, rank: int) -> Callable[[str], None]:
        return lambda line: self._on_line(rank, line)

    def _wait(self, rank: int, container: Container) -> None:
        try:
            status = container.wait()
        except ExecutorError as error:
            self._report(HostLost(rank, str(error), self))
        except Exception as error:
            _log.exception("%s: waiting for it failed", container.name)
            self._report(HostLost(rank, f"{type(error).__name__}: {error}", self))
        else:
            self._report(HostEnded(rank, -1 if status is None else status, self))


def _stop(container: Container, grace: float) -> None:
    try:
        container.stop(grace)
    except ExecutorError as error:
        _log.warning("%s was not stopped: %s", container.name, error)

"""What runs the image: an engine's containers, or plain processes of this environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

SHM_SIZE = 2 * 1024**3
"""Bytes of /dev/shm: the 64 MB of plain Docker kill data loader workers."""


class ExecutorError(Exception):
    """A container could not be started, or the engine is gone; one line that says why."""


class ImageMissing(ExecutorError):
    """The image is not on this machine, or this executor cannot run it."""


@dataclass(frozen=True)
class ContainerSpec:
    """One container to run.

    Attributes:
        name: unique on this machine, `[a-zA-Z0-9_.-]`; a prefix with the home's id is added.
        image: the image's URI.
        command: the arguments, `("train",)` or `("serve",)`; empty for the image's own CMD.
        entrypoint: replaces the image's when given.
        environment: environment variables of the request.
        base: folder on this machine mounted at `/opt/ml`.
        read_only: paths relative to `base` the container may not write, e.g. `input/data`.
        hostname: its name on `network`, e.g. `algo-1`.
        network: a private network made with `Executor.create_network`; None for the default one.
        isolated: no way to anything outside (SageMaker's network isolation).
        port: a port the container listens on (8080 for `serve`); None for none.
        cpus: how many cores it may use; None for all.
        gpus: give it the machine's GPUs, when there are any.
        shm_size: bytes of `/dev/shm`.
    """

    name: str
    image: str
    command: tuple[str, ...]
    base: Path
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    hostname: str = "algo-1"
    network: str | None = None
    isolated: bool = False
    port: int | None = None
    cpus: int | None = None
    gpus: bool = False
    shm_size: int = SHM_SIZE


class Container(Protocol):
    """A container that was started."""

    @property
    def name(self) -> str:
        """The spec's name."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on this machine that reach the spec's `port`."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status once it ended and all its lines were delivered; None after `timeout` s.

        Raises:
            ExecutorError: the engine is gone, so nobody knows.
        """

    def stop(self, grace: float) -> int:
        """SIGTERM, SIGKILL after `grace` seconds if it still runs; its exit status."""

    def remove(self) -> None:
        """Kill it if it still runs, forget it, and give its files in `base` to the caller."""


class Executor(Protocol):
    """Runs containers; everything it starts carries the home's id, so that `reap` finds it."""

    @property
    def name(self) -> str:
        """`docker` or `process`."""

    @property
    def max_hosts(self) -> int:
        """How many hosts one job may have."""

    def check_image(self, image: str) -> None:
        """Make sure the image can be run.

        Raises:
            ImageMissing: it cannot; the line says what was found.
            ExecutorError: the engine does not answer.
        """

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Make a private network for the hosts of one job."""

    def remove_network(self, name: str) -> None:
        """Remove it; one that is not there is no error."""

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a container; `on_line` gets each line it prints, in order, without its newline.

        `on_line` is called from one other thread per container.

        Raises:
            ImageMissing, ExecutorError: it could not be started.
        """

    def reap(self) -> list[str]:
        """Remove every container and network an earlier server of this home left; their names."""

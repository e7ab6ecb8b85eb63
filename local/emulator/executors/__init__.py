"""Executors run the image: as containers of an engine, or as processes of this environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

ExecutorName = Literal["auto", "docker", "process"]
"""What `--executor` takes; `auto` prefers Docker."""
SHM_SIZE = 2 * 1024**3
"""Bytes of /dev/shm; data loader workers crash with Docker's default of 64 MB."""


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
        shared: folders of this machine that other containers see too, by where they lie below
            `base`; they are made when missing, and anything in `base` at that place is hidden.
        hostname: its name on `network`, e.g. `algo-1`.
        network: a private network made with `Executor.create_network`; None for the default one.
        isolated: without access to anything outside (SageMaker's network isolation).
        port: a port the container listens on (8080 for `serve`); None for none.
        cpus: how many cores it may use; None for all.
        gpus: whether it gets the machine's GPUs, when there are any.
        shm_size: bytes of `/dev/shm`.
    """

    name: str
    image: str
    command: tuple[str, ...]
    base: Path
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    shared: Mapping[str, Path] = field(default_factory=dict)
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

    @property
    def base(self) -> str:
        """Where it sees the spec's `base`."""

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status, after the end and the last line; None after `timeout` seconds.

        Raises:
            ExecutorError: the engine is gone, and the status with it.
        """

    def stop(self, grace: float) -> int:
        """Send SIGTERM, and SIGKILL after `grace` seconds; the exit status."""

    def remove(self) -> None:
        """Kill it if it still runs, remove it, and make the home's owner own its files."""


class Executor(Protocol):
    """Runs containers; all that it starts is marked with the home's id, so that `reap` finds it."""

    @property
    def name(self) -> str:
        """`docker` or `process`."""

    @property
    def max_hosts(self) -> int:
        """How many hosts one job may have."""

    def check_image(self, image: str) -> None:
        """Check that the image can be run.

        Raises:
            ImageMissing: it cannot; the message names what was found.
            ExecutorError: the engine does not answer.
        """

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Create a private network for the hosts of one job."""

    def remove_network(self, name: str) -> None:
        """Remove it; one that is not there is no error."""

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a container; `on_line` receives each line it prints, in order, without the newline.

        `on_line` is called from one other thread per container.

        Raises:
            ImageMissing, ExecutorError: it could not be started.
        """

    def reap(self) -> list[str]:
        """Remove every container and network an earlier server of this home left; their names.

        What a container printed is stored in its `saved_output` where the engine still has it.
        """


def saved_output(base: Path) -> Path:
    """The file beside `base` into which `reap` writes what the container printed.

    A container goes on when its server is killed, so nothing has read its last lines.
    """
    return base.with_name(f"{base.name}.said")

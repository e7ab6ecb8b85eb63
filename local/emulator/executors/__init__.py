"""Executors run the image, as containers of a Docker engine or as processes of this environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

ExecutorName = Literal["auto", "docker", "process"]
"""The values of `--executor`; `auto` prefers Docker."""
SHM_SIZE = 2 * 1024**3
"""Bytes of /dev/shm; data loader workers crash with Docker's default of 64 MB."""


class ExecutorError(Exception):
    """A container could not be started, or the engine does not respond; one line that says why."""


class ImageMissing(ExecutorError):
    """The image is not on this machine, or this executor cannot run it."""


@dataclass(frozen=True)
class ContainerSpec:
    """A container to run.

    Attributes:
        name: name of `[a-zA-Z0-9_.-]`, unique in the home; the executor adds the home's id.
        image: the image's URI.
        command: the arguments, `("train",)` or `("serve",)`; empty for the image's CMD.
        base: local folder to mount at `/opt/ml`.
        entrypoint: the entrypoint; None for the image's.
        environment: environment variables of the request.
        read_only: paths relative to `base` that are read-only, such as `input/data`.
        shared: local folders to mount below `/opt/ml` that several containers share, by relative
            path; they are created if missing, and hide what `base` has there.
        hostname: its name on `network`, such as `algo-1`.
        network: a private network from `Executor.create_network`; None for the default one.
        isolated: network isolation.
        port: the port the container listens on (8080 for `serve`); None for none.
        cpus: most cores to use; None for all.
        gpus: use the machine's GPUs, if it has any.
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
    """A started container."""

    @property
    def name(self) -> str:
        """The spec's name."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on this machine that reach the spec's `port`."""

    @property
    def base(self) -> str:
        """The path of the spec's `base` in the container."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the exit and the last line; the exit status, or None after `timeout` seconds.

        Raises:
            ExecutorError: the engine does not respond, so the status is unknown.
        """

    def stop(self, grace: float) -> int:
        """Send SIGTERM, and SIGKILL after `grace` seconds; return the exit status."""

    def remove(self) -> None:
        """Kill and remove the container, and make the home's owner own its files."""


class Executor(Protocol):
    """Runs containers, which carry the home's id so that `reap` finds them."""

    @property
    def name(self) -> str:
        """`docker` or `process`."""

    @property
    def max_hosts(self) -> int:
        """The most hosts per job."""

    def check_image(self, image: str) -> None:
        """Check that the image can be run.

        Raises:
            ImageMissing: it cannot; the message says why.
            ExecutorError: the engine does not respond.
        """

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Create a private network for the hosts of a job."""

    def remove_network(self, name: str) -> None:
        """Remove a network; a missing one is not an error."""

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a container; `on_line` is called with each line of its output, without newline.

        The calls come in order, from one thread per container.

        Raises:
            ImageMissing, ExecutorError: it could not be started.
        """

    def reap(self) -> list[str]:
        """Remove all containers and networks of an earlier server of this home; return their names.

        A container's output is stored in `saved_output`, if the engine still has it.
        """


def saved_output(base: Path) -> Path:
    """The file next to `base` for a container's output, which `reap` writes.

    When a server is killed, its containers continue, but nothing reads their output.
    """
    return base.with_name(f"{base.name}.said")

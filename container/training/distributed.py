"""Distributed training on several GPUs and hosts: torchrun starts the ranks, DDP synchronises them.

SageMaker's training toolkit starts one process per host. If a job needs several, that process runs
torchrun and forwards SIGTERM to it, and each rank runs `container.train` again.
"""

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from container.cpus import physical_cpus
from container.environment import Environment
from container.errors import TrainingError
from container.training.checkpoint import Interrupted

T = TypeVar("T")

PORT = 29500
"""Rendezvous port between hosts: torchrun's default. Hosts have separate networks."""
PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others before it fails."""


@dataclass(frozen=True)
class World:
    """One rank of the process group; a single process is a world of size 1."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the job's output."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum `values` (any shape, on this rank's device) over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is true on any rank; a collective operation."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)).item())

    def align(self, buffers: Iterable[Tensor]) -> None:
        """Copy rank 0's buffers to every rank: batch statistics differ between ranks."""
        if self.size > 1:
            for buffer in buffers:
                dist.broadcast(buffer, src=0)

    def share(self, make: Callable[[], T]) -> T:
        """Run `make` on rank 0 only and return its result on every rank."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.is_main else None]
        dist.broadcast_object_list(box)
        return cast(T, box[0])

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in order, on every rank; a collective operation."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return cast(list[T], found)

    def send(self, values: Tensor, source: int) -> None:
        """Overwrite `values`, a tensor on this rank's device, with those of rank `source`."""
        if self.size > 1:
            dist.broadcast(values, src=source)

    def leave(self) -> None:
        """Leave the process group; no collective operation may follow."""
        if self.size > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


def processes_per_host() -> int:
    """One per GPU, or one without a GPU."""
    return max(1, torch.cuda.device_count())


def needs_launch(environment: Environment) -> bool:
    """Whether this process must start torchrun because the job trains in several processes."""
    several = len(environment.hosts) * processes_per_host() > 1
    return several and "TORCHELASTIC_RUN_ID" not in os.environ


def join_world(environment: Environment) -> World:
    """Join the process group of torchrun's variables; without them, a world of size 1."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return World()
    environment.join_network()
    world = World(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
    )
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group(backend, timeout=PATIENCE)
    return world


def launch(environment: Environment, module: str) -> None:
    """Run `python -m module` once for each rank of this host and wait for all of them.

    Raises:
        Interrupted: SIGTERM arrived and was forwarded to the ranks.
        TrainingError: a rank failed; its error is in `output/failure`.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run",
        *_rendezvous(environment),
        f"--nproc-per-node={processes_per_host()}",
        "--max-restarts=0",
        "-m", module,
    ]  # fmt: skip
    threads = max(1, physical_cpus() // processes_per_host())
    child = subprocess.Popen(command, env={"OMP_NUM_THREADS": str(threads)} | os.environ)
    forwarded: list[str] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        forwarded.append(signal.Signals(number).name)
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    status = child.wait()
    if status and forwarded:
        raise Interrupted(f"stopped by {forwarded[0]}; a checkpoint was written")
    if status:
        raise TrainingError(f"a training process failed (torchrun ended with status {status})")


def _rendezvous(environment: Environment) -> list[str]:
    """torchrun's rendezvous options.

    A single host uses a free port, so several jobs can share a machine. Several hosts need a known
    address.
    """
    if len(environment.hosts) == 1:
        return ["--standalone", "--nnodes=1", "--local-addr=127.0.0.1"]
    return [
        f"--nnodes={len(environment.hosts)}",
        f"--node-rank={environment.host_rank}",
        f"--master-addr={environment.hosts[0]}",
        f"--master-port={PORT}",
    ]


LARGEST = 256 << 20
"""Bytes one host may send after compression; they are held in memory."""


def gather_folder(folder: Path, world: World) -> list[str]:
    """Copy the files of every other host's `folder` to rank 0's; a collective operation.

    Returns:
        On rank 0, a message for each host whose files could not be gathered.
    """
    if world.size == 1:
        return []
    dist.barrier()  # the other ranks of a host write into the same folder
    sends = world.local_rank == 0 and not world.is_main
    packed = _pack(folder) if sends else {}
    received: list[dict[str, bytes] | None] | None = [None] * world.size if world.is_main else None
    dist.gather_object(packed, received)
    problems = []
    for rank, part in enumerate(received or ()):
        if part is None:
            problems.append(
                f"profile of the host of rank {rank}: more than {LARGEST >> 20} MiB, or unreadable"
            )
        else:
            _unpack(part, folder)
    return problems


def _pack(folder: Path) -> dict[str, bytes] | None:
    """The folder's files by their path within it, compressed; None if they cannot be sent."""
    try:
        packed = {
            path.relative_to(folder).as_posix(): zlib.compress(path.read_bytes(), 1)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    except OSError:
        return None
    return packed if sum(map(len, packed.values())) <= LARGEST else None


def _unpack(files: dict[str, bytes], folder: Path) -> None:
    for name, packed in files.items():
        path = folder / name
        if ".." not in path.parts and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(zlib.decompress(packed))

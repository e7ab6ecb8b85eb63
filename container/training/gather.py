"""Gathers the files that each host wrote to rank 0's host at the end of training."""

import zlib
from pathlib import Path

from torch import distributed as dist

from container.training.distributed import World

LARGEST = 256 << 20
"""Bytes one host may send, packed; they pass through memory."""


def gather_folder(folder: Path, world: World) -> list[str]:
    """Add the files of every other host's `folder` to rank 0's; a collective operation.

    Returns:
        On rank 0, a line for each host whose files could not be gathered.
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
                f"what rank {rank}'s host measured: more than {LARGEST >> 20} MiB, or unreadable"
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

"""What every host measured, brought to the first one before the hosts part."""

import io
import tarfile
from pathlib import Path

from torch import distributed as dist

from container.distributed import World

LARGEST = 256 << 20
"""Bytes one host may send, packed; they pass through memory."""


def gather_folder(folder: Path, world: World) -> list[str]:
    """Add the files of every other host's `folder` to rank 0's; every rank must ask.

    Returns:
        On rank 0, a line for each host whose files could not be brought.
    """
    if world.size == 1:
        return []
    dist.barrier()  # the other ranks of a host write into the same folder
    sends = world.local_rank == 0 and not world.is_main
    packed = _pack(folder) if sends else b""
    fits = len(packed) <= LARGEST
    received: list[bytes | None] | None = [None] * world.size if world.is_main else None
    dist.gather_object(packed if fits else None, received)
    problems = []
    for rank, part in enumerate(received or ()):
        if part is None:
            problems.append(f"rank {rank}'s host measured more than {LARGEST >> 20} MiB")
        elif part:
            _unpack(part, folder)
    return problems


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return buffer.getvalue()


def _unpack(packed: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            if not (folder / member.name).exists():
                archive.extract(member, folder, filter="data")

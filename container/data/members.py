"""Images that lie in tar shards: where each one is, and how its bytes are read.

Nothing is unpacked: an image is read at its offset in the shard. What is kept of an image is its
name in UTF-8 and some 30 bytes, in arrays that processes share after a fork.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from container.errors import DataError
from container.files.folders import readable
from container.files.regular import open_regular

SEPARATOR = "!"
"""Between a shard's name and its member's, as in `000.tar!ants/1.jpg`."""
BLOCK = 8 << 20
"""Bytes of a shard that are read at once where it is streamed: S3's performance guidelines call 8
to 16 MB typical of byte-range fetches."""
MOST_OPEN = 64
"""Shards a process holds open: a tenth of the usual limit of 1,024 descriptors."""


class OpenShards:
    """The shards of a folder, opened when first read; those read longest ago are closed.

    Any number of threads may read. A copy in another process opens its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> "tuple[type[OpenShards], tuple[Path]]":  # noqa: D105
        return OpenShards, (self.root,)

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer where the shard ends. Raises OSError."""
        file = self._file(shard)
        parts = []
        while size > 0 and (part := os.pread(file.number, size, offset)):
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _file(self, shard: str) -> "_Descriptor":
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
            # Not the file object: the garbage collector may take that before its descriptor is
            # closed, and then it warns.
            with open_regular(self.root / shard) as opened:
                file = self._open[shard] = _Descriptor(os.dup(opened.fileno()))
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return file


class _Descriptor:
    """An open file, closed when the last thread that reads it has let it go."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@dataclass(frozen=True, eq=False)
class MemberTable:
    """The members of some shards that are images of samples, in the order in which they lie.

    Attributes:
        files: the shards' folder.
        shards: their paths below it.
        names: the members' names in UTF-8, one after the other.
        ends: int64 (N,), where each name ends.
        shard: int32 (N,), an index into `shards`.
        offset, size: int64 (N,), bytes.
    """

    files: OpenShards
    shards: tuple[str, ...]
    names: bytes
    ends: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]

    def name(self, row: int) -> str:
        """`shard!member` of one."""
        start = int(self.ends[row - 1]) if row else 0
        member = self.names[start : int(self.ends[row])].decode()
        return f"{self.shards[self.shard[row]]}{SEPARATOR}{member}"


class Members(Sequence[str]):
    """Some rows of a table: a sequence of names `shard!member`, made when they are asked for.

    Args:
        table: all members.
        rows: int64 (N,), those that count.
    """

    def __init__(self, table: MemberTable, rows: npt.NDArray[np.int64]) -> None:
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        """How many."""
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> "Members": ...
    def __getitem__(self, position: int | slice) -> "str | Members":
        """The name at `position`."""
        if isinstance(position, slice):
            return Members(self.table, self.rows[position])
        return self.table.name(int(self.rows[position]))

    def __iter__(self) -> Iterator[str]:
        """The names in order."""
        return map(self.table.name, self.rows.tolist())

    def take(self, positions: npt.NDArray[np.int64]) -> "Members":
        """Those at some positions; the table is shared."""
        return Members(self.table, self.rows[positions])

    def size(self, position: int) -> int:
        """Bytes of the member at `position`."""
        return int(self.table.size[self.rows[position]])

    def read(self, position: int, size: int | None = None) -> bytes:
        """The bytes of the member at `position`, or its first `size`.

        Raises:
            DataError: the shard has become shorter.
            OSError: it cannot be read.
        """
        table, row = self.table, self.rows[position]
        wanted = int(table.size[row]) if size is None else min(size, self.size(position))
        data = table.files.read(table.shards[table.shard[row]], int(table.offset[row]), wanted)
        return self._whole(position, data, wanted)

    def blocks(self) -> npt.NDArray[np.int64]:
        """The block of each, int64 (N,), not decreasing: those that begin in the same `BLOCK`."""
        shard, offset = self.table.shard[self.rows], self.table.offset[self.rows]
        block = offset // BLOCK
        first = np.ones(len(self), dtype=bool)
        first[1:] = (shard[1:] != shard[:-1]) | (block[1:] != block[:-1])
        return np.cumsum(first) - 1

    def _whole(self, position: int, data: bytes, wanted: int) -> bytes:
        if len(data) < wanted:
            raise DataError(
                f"{readable(self[position])}: found {len(data):,} bytes, expected {wanted:,}: the "
                "shard has changed since it was indexed"
            )
        return data


class BlockReader:
    """Reads members block by block, each block in one go, and keeps the blocks read last.

    Args:
        members: in the order in which they lie.
        limit: bytes of blocks that are kept; one is kept however large it is.
    """

    def __init__(self, members: Members, limit: int) -> None:
        self._members, self._limit = members, limit
        blocks = members.blocks()
        self._block = blocks
        # The first position of each block, and the end.
        self._starts = np.append(np.flatnonzero(np.diff(blocks, prepend=-1)), len(members)).astype(
            np.int64
        )
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def read(self, position: int) -> bytes:
        """The bytes of the member at `position`. Raises as `Members.read` does."""
        table, rows = self._members.table, self._members.rows
        block = int(self._block[position])
        data = self._load(block)
        begin = int(table.offset[rows[position]] - table.offset[rows[self._starts[block]]])
        size = self._members.size(position)
        return self._members._whole(position, data[begin : begin + size], size)

    def _load(self, block: int) -> bytes:
        if block in self._kept:
            self._kept.move_to_end(block)
            return self._kept[block]
        table, rows = self._members.table, self._members.rows
        first, last = rows[self._starts[block]], rows[self._starts[block + 1] - 1]
        begin, end = int(table.offset[first]), int(table.offset[last] + table.size[last])
        # Before it is read, so that no more than the limit is held.
        while self._kept and self._bytes + end - begin > self._limit:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        data = table.files.read(table.shards[table.shard[first]], begin, end - begin)
        self._kept[block] = data
        self._bytes += len(data)
        return data

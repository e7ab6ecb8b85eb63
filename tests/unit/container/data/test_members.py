"""Members of shards: their names, their bytes, and the blocks they are read in."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from container.data import members as members_module
from container.data.index import Index
from container.data.members import BlockReader, Members, OpenShards
from container.data.shards.reading import read_shards
from container.errors import DataError
from tests.shards import samples, write_shard

Read = Callable[..., bytes]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Return an index of three shards of ten images whose bytes say where they are stored."""
    for shard in range(3):
        written = [
            (name, f"{shard} {name}".encode() * 50 if name.endswith("jpg") else data)
            for name, data in samples(["a", "b"] * 5)
        ]
        write_shard(tmp_path / f"{shard}.tar", written)
    return read_shards(tmp_path, ("0.tar", "1.tar", "2.tar")).index


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Record the shard, offset and size of every read."""
    found: list[tuple[str, int, int]] = []
    real = OpenShards.read

    def read(self: OpenShards, shard: str, offset: int, size: int) -> bytes:
        found.append((shard, offset, size))
        return real(self, shard, offset, size)

    monkeypatch.setattr(OpenShards, "read", read)
    return found


def members(index: Index) -> Members:
    assert index.members is not None
    return index.members


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def copied(index: Index) -> Index:
    """Return the index as another process receives it."""
    copy: Index = ForkingPickler.loads(ForkingPickler.dumps(index))
    return copy


def expected(position: int) -> bytes:
    shard, number = divmod(position, 10)
    return f"{shard} {number:06d}.jpg".encode() * 50


def test_many_threads_may_read_members(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "MOST_OPEN", 1)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(index.read, [*range(30)] * 20))
    assert found == [expected(position) for position in range(30)] * 20


def test_the_least_recently_read_shards_are_closed(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members_module, "MOST_OPEN", 2)
    before = open_files()
    for position in range(30):
        index.read(position)
    assert open_files() <= before + 2


def test_names_are_a_sequence(index: Index) -> None:
    names = members(index)
    assert (len(names), names[0], names[-1]) == (30, "0.tar!000000.jpg", "2.tar!000009.jpg")
    assert list(names)[11] == names[11] == "1.tar!000001.jpg"
    assert list(names[10:12]) == ["1.tar!000000.jpg", "1.tar!000001.jpg"]
    assert "2.tar!000003.jpg" in names
    assert list(names.take(np.array([0, 29]))) == [names[0], names[29]]


def test_a_process_gets_a_copy_without_open_files(index: Index) -> None:
    index.read(0)
    copy = copied(index)
    assert list(copy.paths) == list(index.paths)
    assert copy.read(17) == expected(17)


def test_a_shard_that_became_shorter_is_named(index: Index) -> None:
    os.truncate(index.root / "2.tar", 1000)
    with pytest.raises(DataError, match=r"2\.tar!000009\.jpg: found 0 bytes, expected 600: the"):
        index.read(29)


def test_a_deleted_shard_is_named(index: Index) -> None:
    copy = copied(index)  # it has no file open
    (index.root / "1.tar").unlink()
    with pytest.raises(DataError, match=r"1\.tar!000000\.jpg: cannot be read: No such file"):
        copy.read(10)


class TestBlocks:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(members_module, "BLOCK", 8192)

    def test_a_block_is_a_short_range_of_one_shard(self, index: Index) -> None:
        blocks = members(index).blocks()
        assert np.diff(blocks).min() >= 0
        assert set(np.diff(blocks)) == {0, 1}
        table = members(index).table
        for block in range(blocks[-1] + 1):
            (rows,) = np.nonzero(blocks == block)
            assert len(set(table.shard[rows])) == 1
            assert np.ptp(table.offset[rows]) < 8192
        assert blocks[-1] + 1 > 3, "each shard has several"

    def test_a_cached_block_is_read_once(self, index: Index, reads: Any) -> None:
        reader = BlockReader(members(index), limit=1 << 20)
        order = np.random.default_rng(0).permutation(30).tolist()
        assert [reader.read(position) for position in order] == [expected(at) for at in order]
        assert len(reads) == members(index).blocks()[-1] + 1

    def test_the_size_of_the_block_cache_is_limited(self, index: Index, reads: Any) -> None:
        reader = BlockReader(members(index), limit=1)
        for position in (0, 1, 29, 0):
            assert reader.read(position) == expected(position)
        assert len(reads) == 3, "the second lies beside the first, which went for the last"

    def test_only_blocks_of_requested_images_are_read(self, index: Index, reads: Any) -> None:
        some = members(index.take([3, 4, 28]))
        reader = BlockReader(some, limit=1 << 20)
        assert [reader.read(at) for at in range(3)] == [expected(at) for at in (3, 4, 28)]
        assert [shard for shard, _, _ in reads] == ["0.tar", "2.tar"]

    def test_a_shard_that_became_shorter_is_named(self, index: Index) -> None:
        reader = BlockReader(members(index), limit=1 << 20)
        os.truncate(index.root / "0.tar", 6000)
        with pytest.raises(DataError, match=r"0\.tar!\d+\.jpg: found \d+ bytes, expected 600"):
            [reader.read(position) for position in range(10)]

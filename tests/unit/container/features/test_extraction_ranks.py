"""Several ranks compute a share each; here they are threads instead of processes."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from container.data.index import Index
from container.features import store
from container.features.extraction import FeatureExtractor
from container.training.distributed import World
from tests.unit.container.features import tiny


class Meeting:
    """A process group for threads."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size)
        self.values: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait(60)
        found = list(self.values)
        self.barrier.wait(60)
        return found


@dataclass(frozen=True)
class ThreadWorld(World):
    meeting: Meeting = field(default_factory=lambda: Meeting(1))

    def gather(self, value: Any) -> list[Any]:
        return self.meeting.exchange(self.rank, value)

    def share(self, make: Callable[[], Any]) -> Any:
        return self.gather(make() if self.is_main else None)[0]

    def any(self, flag: bool, device: torch.device) -> bool:  # noqa: ARG002
        return any(self.gather(flag))

    def align(self, buffers: Iterable[torch.Tensor]) -> None:
        for buffer in buffers:
            self.send(buffer, 0)

    def send(self, values: torch.Tensor, source: int) -> None:
        sent = self.gather(values.clone() if self.rank == source else None)[source]
        values.copy_(sent)


@pytest.fixture
def index(make_folder: Callable[..., Path]) -> Index:
    return Index.from_folder(make_folder({"ants": 150, "bees": 170}, side=(9, 12)))


def extractors(roots: list[Path], said: list[str], per_host: int) -> list[FeatureExtractor]:
    """Return one per rank; ranks other than 0 have other weights until they receive rank 0's."""
    meeting = Meeting(len(roots))
    return [
        tiny.extractor(
            root,
            said,
            seed=rank,
            world=ThreadWorld(rank, len(roots), rank % per_host, per_host, meeting),
        )
        for rank, root in enumerate(roots)
    ]


def extract(given: list[FeatureExtractor], index: Index) -> list[np.ndarray]:
    with ThreadPoolExecutor(len(given)) as threads:
        return [
            np.array(features.values)
            for features in threads.map(lambda each: each.extract(index), given)
        ]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """Record the rank, the shard and the host's folder of each written shard."""
    calls: list[tuple[int, int, str]] = []
    write = store.FeatureDraft.write

    def counting(self: store.FeatureDraft, shard: int, values: bytes, rank: int) -> str:
        calls.append((rank, shard, self.folder.parent.name))
        return write(self, shard, values, rank)

    monkeypatch.setattr(store.FeatureDraft, "write", counting)
    return calls


def test_the_ranks_of_a_host_share_one_file(
    tmp_path: Path, index: Index, written: list[tuple[int, int, str]]
) -> None:
    (alone,) = extract(extractors([tmp_path / "alone"], [], 1), index)
    del written[:]
    one, other = extract(extractors([tmp_path / "host"] * 2, [], 2), index)
    np.testing.assert_array_equal(one, alone)
    np.testing.assert_array_equal(other, alone)
    assert sorted(written) == [(0, 0, "host"), (0, 2, "host"), (0, 4, "host"),
                               (1, 1, "host"), (1, 3, "host")]  # fmt: skip


def test_hosts_send_each_other_their_shards(
    tmp_path: Path, index: Index, written: list[tuple[int, int, str]]
) -> None:
    (alone,) = extract(extractors([tmp_path / "alone"], [], 1), index)
    del written[:]
    roots = [tmp_path / "one", tmp_path / "other"]
    for values in extract(extractors(roots, [], 1), index):
        np.testing.assert_array_equal(values, alone)
    assert len(written) == 10, "five shards for each host"
    del written[:]
    extract(extractors(roots, [], 1), index)
    assert written == []


def test_a_host_without_features_receives_them_from_another(
    tmp_path: Path, index: Index, written: list[tuple[int, int, str]]
) -> None:
    (alone,) = extract(extractors([tmp_path / "one"], [], 1), index)
    del written[:]
    said: list[str] = []
    roots = [tmp_path / "one", tmp_path / "other"]
    for values in extract(extractors(roots, said, 1), index):
        np.testing.assert_array_equal(values, alone)
    assert written == [(1, shard, "other") for shard in range(5)]
    assert "features of train images: 5 of 5 shards exist already" in said

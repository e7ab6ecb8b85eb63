"""Batches of images in shards, by random access and streamed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from container.data import members as members_module
from container.data.index import Index
from container.data.loader import EpochLoader
from container.data.members import BlockReader, OpenShards
from container.data.splits import read_index
from container.errors import DataError
from container.images.geometry import Geometry
from tests.shards import shards_of

SMALL, LARGE = Geometry.for_size(16), Geometry.for_size(72)


@pytest.fixture
def folder(make_folder: Callable[..., Any]) -> Index:
    return Index.from_folder(make_folder({"a": 20, "b": 21}, side=(80, 90)))


@pytest.fixture
def shards(folder: Index, tmp_path: Path) -> Index:
    """Return the same images, in the same order, in shards."""
    return read_index(shards_of(folder.root, tmp_path / "shards", 3))


@pytest.fixture
def streamed(shards: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr(members_module, "BLOCK", 8192)
    return replace(shards, streamed=True)


def make(index: Index, geometry: Geometry, **options: Any) -> EpochLoader:
    settings: dict[str, Any] = {"batch_size": 4, "seed": 1, "train": True, "workers": 0}
    settings |= {"image_size": geometry.crop} | options
    return EpochLoader(index, geometry, **settings)


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("geometry", [SMALL, LARGE])
def test_batches_equal_those_of_an_image_folder(
    folder: Index, shards: Index, geometry: Geometry, train: bool
) -> None:
    loaders = [make(index, geometry, train=train) for index in (folder, shards)]
    for epoch in range(2):
        assert same(*(list(loader.batches(epoch)) for loader in loaders))


@pytest.mark.parametrize("geometry", [SMALL, LARGE])
def test_a_streamed_epoch_has_every_image(
    folder: Index, streamed: Index, geometry: Geometry
) -> None:
    found = list(make(streamed, geometry, random_crop=False).batches(1))
    pixels = {image.numpy().tobytes() for images, _ in found for image in images}
    expected = {
        geometry.load(folder.read(at)).transpose(2, 0, 1).tobytes() for at in range(len(folder))
    }
    assert len(pixels) == 40, "the last is alone and left out"
    assert pixels < expected


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_batches_depend_on_neither_workers_nor_start(
    streamed: Index, workers: int
) -> None:
    expected = list(make(streamed, LARGE).batches(2))
    loader = make(streamed, LARGE, workers=workers)
    assert same(list(loader.batches(2)), expected)
    assert same(list(loader.batches(2, start=4)), expected[4:])
    assert not same(list(loader.batches(3)), expected)


def test_streamed_evaluation_is_in_index_order(folder: Index, streamed: Index) -> None:
    loaders = [make(index, LARGE, train=False) for index in (folder, streamed)]
    assert same(*(list(loader.batches(0)) for loader in loaders))


def test_streaming_reads_each_block_once(streamed: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = OpenShards.read

    def read(self: OpenShards, shard: str, offset: int, size: int) -> bytes:
        sizes.append(size)
        return real(self, shard, offset, size)

    monkeypatch.setattr(OpenShards, "read", read)
    assert streamed.members is not None
    blocks = int(streamed.members.blocks()[-1]) + 1
    list(make(streamed, LARGE).batches(0))
    assert 3 < blocks < len(streamed) / 2
    assert len(sizes) <= blocks
    assert isinstance(BlockReader(streamed.members, 1).read(0), bytes)


def test_a_shard_truncated_during_training_is_named(streamed: Index) -> None:
    loader = make(streamed, LARGE)
    list(loader.batches(0))
    with (streamed.root / "2.tar").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match=r"2\.tar!b/\d+\.jpg: found 0 bytes, expected"):
        list(make(streamed, LARGE).batches(1))

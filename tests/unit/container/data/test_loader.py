import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from container.data import loader as loader_module
from container.data.crop import RandomCrop
from container.data.index import Index
from container.data.loader import EpochLoader, decode_all
from container.errors import BadImage, DataError
from container.images.geometry import Geometry

SMALL, LARGE = Geometry.for_size(16), Geometry.for_size(72)


@pytest.fixture
def index(make_folder: Callable[..., Any]) -> Index:
    return Index.from_folder(make_folder({"a": 7, "b": 6}, side=(80, 90)))


def make(index: Index, geometry: Geometry, **options: Any) -> EpochLoader:
    settings: dict[str, Any] = {"batch_size": 4, "seed": 1, "train": True, "workers": 0}
    settings |= {"image_size": geometry.crop} | options
    return EpochLoader(index, geometry, **settings)


def same(
    one: list[list[Tensor]] | list[tuple[Tensor, Tensor]],
    other: list[list[Tensor]] | list[tuple[Tensor, Tensor]],
) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("geometry", [SMALL, LARGE])
class TestEvaluation:
    def test_evaluation_loads_every_image_once_in_order(
        self, geometry: Geometry, index: Index
    ) -> None:
        loader = make(index, geometry, train=False)
        batches = list(loader.batches(0))
        assert [len(labels) for _, labels in batches] == [4, 4, 4, 1]
        assert len(loader) == 4
        images = torch.cat([images for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
        side = geometry.crop
        assert (images.dtype, images.shape) == (torch.uint8, (13, 3, side, side))
        assert labels.dtype == torch.int64
        assert labels.tolist() == index.labels.tolist()
        for position, image in enumerate(images):
            expected = geometry.load(index.read(position)).transpose(2, 0, 1)
            assert np.array_equal(image.numpy(), expected)

    def test_ranks_share_the_images_without_repeats(self, geometry: Geometry, index: Index) -> None:
        loaders = [make(index, geometry, train=False, rank=rank, world=3) for rank in range(3)]
        counts = [sum(len(labels) for _, labels in loader.batches(0)) for loader in loaders]
        assert counts == [5, 4, 4]
        assert [len(loader) for loader in loaders] == [2, 1, 1]


class TestTraining:
    def test_each_epoch_has_its_own_order_of_all_images(self, index: Index) -> None:
        loader = make(index, SMALL, batch_size=13)
        whole = decode_all(index, SMALL)
        orders = []
        for epoch in (0, 1, 0):
            ((images, labels),) = loader.batches(epoch)
            order = [int(np.argmax((whole == image.numpy()).all((1, 2, 3)))) for image in images]
            assert sorted(order) == list(range(13))
            assert labels.tolist() == index.labels[order].tolist()
            orders.append(order)
        assert orders[0] == orders[2]
        assert orders[0] != orders[1]

    def test_a_last_batch_of_one_is_dropped(self, index: Index) -> None:
        loader = make(index, SMALL)
        assert [len(labels) for _, labels in loader.batches(0)] == [4, 4, 4]
        assert len(loader) == 3

    @pytest.mark.parametrize(("batch_size", "sizes"), [(5, [5, 5, 3]), (1, [1] * 13), (20, [13])])
    def test_other_last_batches_are_kept(
        self, batch_size: int, sizes: list[int], index: Index
    ) -> None:
        loader = make(index, SMALL, batch_size=batch_size)
        assert [len(labels) for _, labels in loader.batches(0)] == sizes
        assert len(loader) == len(sizes)

    def test_ranks_have_equal_shares_that_cover_all_images(self, index: Index) -> None:
        loaders = [make(index, SMALL, batch_size=2, rank=rank, world=3) for rank in range(3)]
        shares = [torch.cat([images for images, _ in loader.batches(2)]) for loader in loaders]
        # 13 images make 15 places: five for each rank, and the loader drops a last batch of one.
        assert {len(share) for share in shares} == {4}
        assert {len(loader) for loader in loaders} == {2}
        loaders = [make(index, SMALL, batch_size=5, rank=rank, world=3) for rank in range(3)]
        pictures = [
            image.numpy().tobytes()
            for loader in loaders
            for images, _ in loader.batches(2)
            for image in images
        ]
        assert (len(pictures), len(set(pictures))) == (15, 13)

    def test_more_ranks_than_images(self, index: Index) -> None:
        few = index.take([0, 7])
        loaders = [make(few, SMALL, rank=rank, world=5) for rank in range(5)]
        assert [len(list(loader.batches(0))) for loader in loaders] == [1] * 5

    def test_large_images_get_a_new_crop_each_epoch(self, index: Index) -> None:
        one = index.take([3])
        loader = make(one, LARGE)
        first, again, other = (next(iter(loader.batches(epoch)))[0] for epoch in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        plain = make(one, LARGE, random_crop=False)
        assert np.array_equal(
            next(iter(plain.batches(0)))[0][0].numpy(), LARGE.load(one.read(0)).transpose(2, 0, 1)
        )

    def test_each_image_has_its_own_crop(self, index: Index) -> None:
        index.file(1).write_bytes(index.read(0))
        ((images, _),) = make(index.take([0, 1]), LARGE).batches(0)
        assert not torch.equal(images[0], images[1])

    def test_small_images_are_decoded_once(self, index: Index) -> None:
        loader = make(index, SMALL)
        first = list(loader.batches(0))
        for position in range(len(index)):
            index.file(position).unlink()
        assert same(list(loader.batches(0)), first)


class TestStart:
    @pytest.mark.parametrize("geometry", [SMALL, LARGE])
    @pytest.mark.parametrize("workers", [0, 1])
    def test_resumed_batches_are_those_of_a_whole_epoch(
        self, workers: int, geometry: Geometry, index: Index
    ) -> None:
        whole = list(make(index, geometry).batches(3))
        loader = make(index, geometry, workers=workers)
        for start in range(len(whole) + 2):
            assert same(list(loader.batches(3, start)), whole[start:])

    def test_skipped_batches_are_not_decoded(
        self, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[int] = []
        whole_read = Index.read

        def noted(self: Index, position: int) -> bytes:
            read.append(position)
            return whole_read(self, position)

        monkeypatch.setattr(Index, "read", noted)
        assert len(list(make(index, LARGE, train=False).batches(0, start=2))) == 2
        assert read == [8, 9, 10, 11, 12]


class TestWorkers:
    def test_the_number_of_workers_changes_nothing(self, index: Index) -> None:
        expected = [list(make(index, LARGE).batches(epoch)) for epoch in (0, 1)]
        for workers in (1, 2):
            loader = make(index, LARGE, workers=workers)
            assert all(same(list(loader.batches(epoch)), expected[epoch]) for epoch in (0, 1))

    def test_an_abandoned_epoch_does_not_affect_the_next(self, index: Index) -> None:
        loader = make(index, LARGE, workers=1)
        next(iter(loader.batches(0)))
        assert same(list(loader.batches(1)), list(make(index, LARGE).batches(1)))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_bad_image_is_reported_in_one_line(self, workers: int, index: Index) -> None:
        index.file(2).write_bytes(b"%PDF")
        with pytest.raises(BadImage) as caught:
            list(make(index, LARGE, workers=workers).batches(0))
        assert str(caught.value).startswith("a/002.jpg: not an accepted image: found a PDF")
        assert "\n" not in str(caught.value)

    def test_a_deleted_file_is_reported_in_one_line(self, index: Index) -> None:
        index.file(2).unlink()
        for geometry in (SMALL, LARGE):
            with pytest.raises(DataError, match=r"^a/002\.jpg: cannot be read"):
                list(make(index, geometry).batches(0))

    def test_a_dying_worker_is_explained(
        self, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = os.getpid()

        def die(*_: object) -> None:
            assert os.getpid() != here
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(RandomCrop, "load", die)
        with pytest.raises(DataError, match=r"worker died at a/.*--shm-size"):
            list(make(index, LARGE, workers=1).batches(0))

    def test_too_little_shared_memory_is_reported_once(
        self, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        asked: list[tuple[int, int, int]] = []

        def none_affordable(
            wanted: int, prefetch: int, batch_bytes: int, *, report: Callable[[str], object]
        ) -> int:
            asked.append((wanted, prefetch, batch_bytes))
            report("too little")
            return 0

        monkeypatch.setattr(loader_module, "affordable_workers", none_affordable)
        loader = make(index, LARGE, workers=3, report=said.append)
        assert same(list(loader.batches(0)), list(make(index, LARGE).batches(0)))
        list(loader.batches(1))
        assert said == ["too little"]
        assert asked[0] == (3, loader_module.PREFETCH, 4 * 3 * 72 * 72)


def test_the_global_generators_are_not_used(index: Index) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for workers in (0, 1):
        list(make(index, LARGE, workers=workers).batches(0))
    list(make(index, SMALL).batches(0))
    assert torch.equal(torch.rand(1), expected)


def test_the_image_size_must_match_the_geometry(index: Index) -> None:
    with pytest.raises(ValueError, match="image_size 32 is not the geometry's crop 16"):
        make(index, SMALL, image_size=32)


def test_a_set_too_large_to_keep_is_read_from_files(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(make(index, SMALL).batches(0))
    monkeypatch.setattr(loader_module, "CACHE_BYTES", 13 * 16 * 16 * 3 - 1)
    loader = make(index, SMALL)
    assert same(list(loader.batches(0)), expected)
    index.file(0).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(loader.batches(0))


class TestKeptImages:
    """Caching decoded images in memory changes nothing but the time."""

    @pytest.mark.parametrize("train", [True, False])
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("keep", [100_000, 10_000_000])
    def test_epochs_are_the_same_with_and_without_the_cache(
        self, index: Index, train: bool, workers: int, keep: int
    ) -> None:
        plain = make(index, LARGE, train=train)
        kept = make(index, LARGE, train=train, workers=workers, keep=keep)
        for epoch in range(3):
            assert same(list(plain.batches(epoch)), list(kept.batches(epoch)))

    def test_a_cached_image_is_not_read_again(self, index: Index) -> None:
        loader = make(index, LARGE, keep=10_000_000)
        first = list(loader.batches(0))
        for position in range(len(index)):
            index.file(position).write_bytes(b"gone")
        assert same(first, list(loader.batches(0)))

    def test_an_image_that_did_not_fit_is_read_again(self, index: Index) -> None:
        loader = make(index, LARGE, keep=100_000)
        list(loader.batches(0))
        for position in range(len(index)):
            index.file(position).write_bytes(b"gone")
        with pytest.raises(BadImage):
            list(loader.batches(0))

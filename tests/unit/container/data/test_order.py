"""The order of an epoch's images, for one process of several."""

import itertools

import numpy as np
import pytest

from container.data.order import STREAMS, WINDOW, EpochOrder, StreamedOrder


def flat(order: EpochOrder, epoch: int) -> list[int]:
    return np.concatenate(order.batches(epoch)).tolist()


def test_evaluation_sees_every_image_once_in_order() -> None:
    orders = [EpochOrder(11, 4, 0, train=False, rank=rank, world=2) for rank in range(2)]
    assert [len(order) for order in orders] == [2, 2]
    assert flat(orders[0], 0) == [0, 2, 4, 6, 8, 10]
    assert flat(orders[1], 3) == [1, 3, 5, 7, 9]


def test_training_shuffles_by_seed_and_epoch_without_single_image_batches() -> None:
    order = EpochOrder(9, 4, 0, train=True)
    assert len(order) == 2
    assert flat(order, 0) != flat(order, 1)
    assert flat(order, 1) == flat(EpochOrder(9, 4, 0, train=True), 1)
    assert flat(order, 0) != flat(EpochOrder(9, 4, 1, train=True), 0)
    shares = [flat(EpochOrder(9, 4, 0, train=True, rank=rank, world=2), 0) for rank in range(2)]
    assert [len(share) for share in shares] == [4, 4], "each leaves out its fifth, a lone image"


class TestStreamed:
    def make(self, rank: int = 0, world: int = 1, count: int = 1003) -> StreamedOrder:
        """Return an order of blocks of 20 images in batches of 8."""
        epochs = EpochOrder(count, 8, 3, train=True, rank=rank, world=world)
        return StreamedOrder(epochs, np.arange(count) // 20)

    def test_an_epoch_has_every_image_once_shuffled_by_seed_and_epoch(self) -> None:
        order = self.make()
        first, again, second = (np.concatenate(order.batches(epoch)) for epoch in (0, 0, 1))
        assert sorted(first.tolist()) == list(range(1003))
        assert first.tolist() == again.tolist() != second.tolist()
        other = StreamedOrder(EpochOrder(1003, 8, 4, train=True), np.arange(1003) // 20)
        assert np.concatenate(other.batches(0)).tolist() != first.tolist()

    @pytest.mark.parametrize("count", [9, 17, 64, 65, 1000, 1003])
    def test_the_number_and_sizes_of_batches_equal_those_of_an_epoch_order(
        self, count: int
    ) -> None:
        streamed, plain = self.make(count=count), EpochOrder(count, 8, 3, train=True)
        sizes = [len(batch) for batch in streamed.batches(2)]
        assert sizes == [len(batch) for batch in plain.batches(2)]
        assert len(streamed) == len(plain) == len(sizes)

    def test_ranks_divide_the_images(self) -> None:
        shares = [np.concatenate(self.make(rank, 3).batches(1)) for rank in range(3)]
        assert {len(share) for share in shares} == {335}
        assert set(np.concatenate(shares).tolist()) == set(range(1003))

    def test_each_stream_reads_few_blocks_at_a_time_and_each_once(self) -> None:
        count = 8 * 8 * 40
        batches = self.make(count=count).batches(0)
        for place in range(STREAMS):
            mine = batches[place::STREAMS]
            windows = [set((batch // 20).tolist()) for batch in mine]
            assert max(map(len, windows)) <= 2 * WINDOW, "a batch may end one window and begin one"
            together = [len(a | b) for a, b in itertools.pairwise(windows)]
            assert max(together) <= 2 * WINDOW
            last_seen = {block: at for at, found in enumerate(windows) for block in found}
            first_seen = {
                block: at for at, found in reversed(list(enumerate(windows))) for block in found
            }
            assert max(last_seen[block] - first_seen[block] for block in last_seen) <= 11
        blocks = [
            set((np.concatenate(batches[place::STREAMS]) // 20).tolist()) for place in range(8)
        ]
        assert sum(map(len, blocks)) <= count // 20 + STREAMS * WINDOW

    def test_images_of_a_window_are_mixed(self) -> None:
        batch = np.concatenate(self.make(count=2560).batches(0)[::STREAMS][:5])
        assert len(set((batch // 20).tolist())) > 1
        assert np.abs(np.diff(batch)).min() >= 1
        assert (np.diff(batch) == 1).mean() < 0.2

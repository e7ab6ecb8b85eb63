"""Positions in the order an epoch has, for one process of several."""

import numpy as np

from container.data.order import EpochOrder


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

"""Batches of features, in the same order as the batches of images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from container.data.loader import Batch
from container.data.order import EpochOrder
from container.features.extraction import Features


class FeatureLoader:
    """The batches of one split's features, for one process.

    Rows are read from the memory map when needed, so sets may exceed memory. With several views,
    each epoch uses one view of each image: a random first one, then the next in each epoch.

    Args:
        views: the features of each view of the same images.
        order: the order of the images in each epoch.
    """

    workers = 0
    in_memory = True

    def __init__(self, views: Sequence[Features], order: EpochOrder) -> None:
        self._views, self._order = views, order
        random = np.random.default_rng((order.seed, len(views)))
        self._first = (
            random.integers(len(views), size=order.count, dtype=np.uint8)
            if len(views) > 1
            else None
        )

    def __len__(self) -> int:
        """Batches per epoch for this process."""
        return len(self._order)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from number `start` on: float32 (N, F) and labels int64 (N,)."""
        labels = self._views[0].labels
        for positions in self._order.batches(epoch)[start:]:
            values = np.empty((len(positions), self._views[0].values.shape[1]), dtype=np.float32)
            if self._first is None:
                values[:] = self._views[0].values[positions]
            else:
                chosen = (self._first[positions].astype(np.int64) + epoch) % len(self._views)
                for number in np.unique(chosen):
                    rows = chosen == number
                    values[rows] = self._views[number].values[positions[rows]]
            yield torch.from_numpy(values), torch.from_numpy(labels[positions])

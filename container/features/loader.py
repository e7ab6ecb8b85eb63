"""Batches of features, in the very order in which the images' loader would give the images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from container.data.loader import Batch
from container.data.order import EpochOrder
from container.features.extraction import Features


class FeatureLoader:
    """The batches of one split's features, for one process.

    Rows are read through the memory map as they are needed, so that sets may exceed memory. Of
    several views an epoch uses one of each image: an image begins with a view drawn by the seed and
    takes the next in each epoch.

    Args:
        views: the features of the same images, one or several times.
        order: of the images in each epoch.
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
        """Batches an epoch has for this process."""
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

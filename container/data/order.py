"""The order of images in each epoch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class EpochOrder:
    """Positions of a split's images, in batches, for one of `world` processes.

    `train=True` shuffles by (seed, epoch), gives each process an equal share (the first images of
    an epoch are repeated if they do not divide evenly) and drops a last batch of a single image,
    which batch normalisation cannot use. `train=False` yields every image once, in index order.

    Attributes:
        count: images of the split.
        batch_size: images per batch.
        seed: seed of the shuffle.
        train: whether to shuffle.
        rank, world: number of this process and of processes.
    """

    count: int
    batch_size: int
    seed: int
    train: bool
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        """Batches per epoch for this process."""
        return len(self._slices(self._share()))

    def batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The positions, int64, of each batch of `epoch`."""
        order: npt.NDArray[np.int64] = np.arange(self.count)
        if self.train:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            order = np.resize(order, self._share() * self.world)
        order = order[self.rank :: self.world]
        return [order[part] for part in self._slices(len(order))]

    def _share(self) -> int:
        if self.train:
            return -(-self.count // self.world)
        return len(range(self.rank, self.count, self.world))

    def _slices(self, count: int) -> list[slice]:
        starts = list(range(0, count, self.batch_size))
        lone = count > 1 and self.batch_size > 1 and count % self.batch_size == 1
        if self.train and lone:
            starts.pop()
        return [slice(start, start + self.batch_size) for start in starts]

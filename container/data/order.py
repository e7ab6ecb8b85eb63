"""The order of images in each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 4
"""Blocks of shards whose images are shuffled together, where shards are streamed."""
STREAMS = 8
"""Places of an epoch that batches are taken from in turn: as many as the workers of a job, at most,
by default. Each worker goes on where it has read, however many there are."""


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
        return len(self.slices(self.share()))

    def batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The positions, int64, of each batch of `epoch`."""
        order: npt.NDArray[np.int64] = np.arange(self.count)
        if self.train:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            order = np.resize(order, self.share() * self.world)
        order = order[self.rank :: self.world]
        return [order[part] for part in self.slices(len(order))]

    def share(self) -> int:
        """Images an epoch has for this process, those of a lone last batch included."""
        if self.train:
            return -(-self.count // self.world)
        return len(range(self.rank, self.count, self.world))

    def slices(self, count: int) -> list[slice]:
        """The batches of `count` images in their order."""
        starts = list(range(0, count, self.batch_size))
        lone = count > 1 and self.batch_size > 1 and count % self.batch_size == 1
        if self.train and lone:
            starts.pop()
        return [slice(start, start + self.batch_size) for start in starts]


@dataclass(frozen=True)
class StreamedOrder:
    """The order of `EpochOrder(train=True)` for shards that are read block by block.

    Blocks are shuffled by (seed, epoch), then images within `WINDOW` blocks; each process gets a
    run of the result. Its batches come from `STREAMS` places of the run in turn: batch number n
    from place n modulo `STREAMS`, but for the last row and a last batch that is short.

    Attributes:
        epochs: what is shared out, and how.
        blocks: int64 (count,), the block of each image, not decreasing.
    """

    epochs: EpochOrder
    blocks: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Batches an epoch has for this process."""
        return len(self.epochs)

    def batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The positions, int64, of each batch of `epoch`."""
        one = self.epochs
        share = one.share()
        order = np.resize(self._shuffled(epoch), share * one.world)
        mine = order[one.rank * share : (one.rank + 1) * share]
        found = [mine[part] for part in one.slices(share)]
        short = len(found[-1]) < one.batch_size if found else False
        last = found[-1:] if short else []
        return [*_in_turn(found[:-1] if short else found), *last]

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        """Every position once."""
        random = np.random.default_rng((self.epochs.seed, epoch))
        starts = np.flatnonzero(np.diff(self.blocks, prepend=-1))
        lengths = np.diff(starts, append=len(self.blocks))
        turn = random.permutation(len(starts))
        lengths = lengths[turn]
        before = np.cumsum(lengths) - lengths
        positions = np.repeat(starts[turn] - before, lengths) + np.arange(len(self.blocks))
        window = np.repeat(np.arange(len(turn)) // WINDOW, lengths)
        found: npt.NDArray[np.int64] = positions[np.lexsort((random.random(len(window)), window))]
        return found


def _in_turn(batches: Sequence[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
    """One of each of `STREAMS` runs of batches, then the next of each."""
    runs = np.array_split(np.arange(len(batches)), STREAMS)
    return [batches[run[row]] for row in range(len(runs[0])) for run in runs if row < len(run)]

"""Gradient accumulation: one optimizer step on several batches, as if they were one.

The loss is the mean over all images of the step. Batch normalisation still sees a batch at a time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def in_groups(
    batches: Iterable[T], size: int, waiting: Callable[[], AbstractContextManager[object]]
) -> Iterator[Iterator[T]]:
    """Group batches lazily, `size` at a time; the last group may have fewer.

    Args:
        waiting: returns a context entered while loading each batch of a group but the first.
    """
    source = iter(batches)
    for first in source:
        yield _group(first, source, size - 1, waiting)


def _group(
    first: T,
    source: Iterator[T],
    others: int,
    waiting: Callable[[], AbstractContextManager[object]],
) -> Iterator[T]:
    yield first
    for _ in range(others):
        with waiting():
            batch = next(source, None)
        if batch is None:
            return
        yield batch


def steps_of(batches: int, size: int) -> int:
    """Number of optimizer steps in an epoch of `batches` batches, `size` per step."""
    return -(-batches // size)


def ends_step(batch: int, batches: int, size: int) -> bool:
    """Whether a batch (from 0) is the last of its step, in an epoch of `batches`."""
    return batch + 1 == batches or (batch + 1) % size == 0


def synchronized(
    parallel: DistributedDataParallel | None, last: bool
) -> AbstractContextManager[object]:
    """A context for forward and backward: DDP reduces gradients only with a step's last batch."""
    return nullcontext() if last or parallel is None else parallel.no_sync()


class GroupLoss:
    """The mean loss over a group's images, and the losses to call `backward` on.

    A group's mean is the weighted mean of its batches' means. The sum of the weights is known only
    with the last batch. Until then gradients are relative to the first batch's weight; they are
    rescaled just before the last backward pass, in which DDP averages them over the ranks.

    Args:
        parameters: the network's parameters.

    Attributes:
        hits: number of correct predictions, a scalar on the device.
        images: number of images.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.hits = torch.zeros(())
        self.images = 0
        self._parameters = list(parameters)
        self._first: Tensor | float | None = None
        self._weights: Tensor | float = 0.0
        self._sum: Tensor | float = 0.0
        self._mean: Tensor | None = None

    def add(self, mean: Tensor, weight: Tensor | float, *, last: bool) -> Tensor:
        """Add a batch's loss; returns the scalar to call `backward` on.

        Args:
            mean: the mean loss of the batch, a scalar.
            weight: the batch's weight, from `loss_weight`.
            last: whether this is the group's last batch.
        """
        self._weights = self._weights + weight
        self._sum = self._sum + mean.detach() * weight
        if self._first is None:
            self._first, self._mean = weight, mean.detach()
            return mean
        self._mean = None
        part = mean * (weight / self._first)
        if not last:
            return part
        share = self._first / self._weights
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(share)
        return part * share

    def count(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch's images and its correct predictions."""
        hits = (logits.detach().argmax(1) == labels).sum().float()
        self.hits = self.hits + hits
        self.images += len(labels)

    @property
    def mean(self) -> Tensor:
        """The mean loss of the images so far, a scalar on the device."""
        return torch.as_tensor(self._sum / self._weights) if self._mean is None else self._mean


def loss_weight(targets: Tensor, class_weights: Tensor | None) -> Tensor | float:
    """The divisor of `F.cross_entropy` when it averages over a batch.

    It is the sum of the labels' class weights, or the number of images if there are no class
    weights or the targets are probabilities.

    Args:
        targets: int64 (N,) labels, or float (N, C) probabilities.
        class_weights: float32 (C,), if the loss has them.
    """
    if class_weights is None or targets.ndim > 1:
        return float(len(targets))
    return class_weights[targets].sum()

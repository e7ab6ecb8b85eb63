"""Gradient accumulation: one optimiser step on several batches, as if they were one.

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
    """Every `size` batches, the last group maybe fewer; each is asked for when it is needed.

    Args:
        waiting: entered while a batch after the first of a group is awaited.
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
    """Optimiser steps of `batches` batches of an epoch, `size` a step, the last maybe fewer."""
    return -(-batches // size)


def ends_step(batch: int, batches: int, size: int) -> bool:
    """Whether a batch, counted from 0, is the last of its step in an epoch of `batches`."""
    return batch + 1 == batches or (batch + 1) % size == 0


def synchronized(
    parallel: DistributedDataParallel | None, last: bool
) -> AbstractContextManager[object]:
    """Around a forward and a backward pass: DDP adds up gradients with a step's last batch only."""
    return nullcontext() if last or parallel is None else parallel.no_sync()


class GroupLoss:
    """The mean loss over a group's images, and what to differentiate for its gradient.

    A group's mean is that of its batches' means by weight. The sum of all weights is known with the
    last batch only, so gradients are kept as multiples of the first batch's weight until then, and
    scaled just before the last backward pass, with which DDP takes the mean over the ranks.

    Args:
        parameters: of the network.

    Attributes:
        hits: how many images were labelled right, a scalar on their device.
        images: how many there were.
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
        """What to call `backward` of.

        Args:
            mean: the loss of one batch, a scalar.
            weight: by which the mean over its images was divided, as `loss_weight` gives it.
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
        """Count a batch's images, and those of which the largest logit is the label's."""
        hits = (logits.detach().argmax(1) == labels).sum().float()
        self.hits = self.hits + hits
        self.images += len(labels)

    @property
    def mean(self) -> Tensor:
        """The mean loss of the images so far, a scalar on their device."""
        return torch.as_tensor(self._sum / self._weights) if self._mean is None else self._mean


def loss_weight(targets: Tensor, class_weights: Tensor | None) -> Tensor | float:
    """What `F.cross_entropy` divides the sum of a batch's losses by.

    Args:
        targets: int64 (N,) labels, or float (N, C) probabilities, of which it counts the images.
        class_weights: float32 (C,), if the loss has them.
    """
    if class_weights is None or targets.ndim > 1:
        return float(len(targets))
    return class_weights[targets].sum()

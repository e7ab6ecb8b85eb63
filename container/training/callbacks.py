"""The training loop's callback: what the debugger and the profiler are called with.

The loop always calls a `Callback`. This one does nothing, and neither smdebug nor the profiler is
imported; `container.monitoring.monitor` has the one that debugs and profiles.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Mode = Literal["train", "eval"]
Collection = Literal["losses", "inputs", "labels", "predictions"]

_NOTHING = nullcontext()


@dataclass(frozen=True)
class StepMetrics:
    """One optimiser step, for the curves.

    Attributes:
        step: its number, from 0.
        epoch: from 1.
        loss: scalar, on the device, detached.
        learning_rate: of this step.
        gradient_norm: scalar, the L2 norm of all gradients before clipping; None if not measured.
    """

    step: int
    epoch: int
    loss: Tensor
    learning_rate: float
    gradient_norm: Tensor | None


class Callback:
    """Does nothing at each point of training.

    Attributes:
        can_stop: whether `stop_reason` can ever return one; the same on every rank.
    """

    can_stop = False

    def setup(
        self, network: nn.Module, device: torch.device, steps: int, facts: Mapping[str, object]
    ) -> None:
        """The network is built.

        Args:
            network: the bare network, on its device.
            device: where it is.
            steps: optimiser steps of the whole job.
            facts: of the job, for the report.
        """

    def on_train_start(self, first_step: int, first_eval_step: int) -> None:
        """Training and validation start with these steps; not 0 after an interruption."""

    def batches(self, mode: Mode, batches: Iterable[T], first_step: int) -> Iterator[T]:  # noqa: ARG002
        """The batches, each the beginning of a step of that mode."""
        return iter(batches)

    def phase(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """A part of a step, or of the job outside of steps."""
        return _NOTHING

    def on_before_forward(self, mode: Mode, network: nn.Module) -> bool:  # noqa: ARG002
        """A forward pass of this network follows; returns whether its tensors are saved."""
        return False

    def on_after_backward(self) -> None:
        """The gradients of a step that is saved are there, unscaled and not yet clipped."""

    def record(self, collection: Collection, value: Tensor) -> None:
        """Save a tensor that no module returns; only if `on_before_forward` returned True."""

    def wants_gradient_norm(self, step: int) -> bool:  # noqa: ARG002
        """Whether the norm of this step's gradients is to be measured."""
        return False

    def on_step_end(self, metrics: StepMetrics) -> None:
        """An optimiser step is done."""

    def stop_reason(self) -> str | None:
        """Why training is to end now, with the model so far; None to go on."""
        return None

    def on_train_end(self) -> None:
        """The last step is done; called on every rank while they can still communicate."""

    def on_fit_end(self) -> None:
        """The artifact and the evaluation are written; called on rank 0."""

    def teardown(self) -> None:
        """The job ends, early or not: release everything; what is written stays."""

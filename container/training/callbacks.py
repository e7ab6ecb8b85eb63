"""What the training loop tells those who watch it: the debugger and the profiler, or nobody.

The loop always speaks to an `Observation`. This one is nobody: every method does nothing, and
neither smdebug nor the profiler is imported. `container.monitoring.monitor` has the one that
listens.
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
class StepFacts:
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


class Observation:
    """Nobody watches.

    Attributes:
        may_stop: whether `stop_asked` can ever have an answer; the same on every rank.
    """

    may_stop = False

    def attach(
        self, network: nn.Module, device: torch.device, steps: int, facts: Mapping[str, object]
    ) -> None:
        """What is going to be trained.

        Args:
            network: the bare network, on its device.
            device: where it is.
            steps: optimiser steps the whole job has.
            facts: what the report is to know of the job.
        """

    def begin(self, first_step: int, first_eval_step: int) -> None:
        """Training and validation start with these steps; not 0 after an interruption."""

    def batches(self, mode: Mode, batches: Iterable[T], first_step: int) -> Iterator[T]:  # noqa: ARG002
        """The batches, each the beginning of a step of that mode."""
        return iter(batches)

    def phase(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """A part of a step, or of the job outside of steps."""
        return _NOTHING

    def forward(self, mode: Mode, network: nn.Module) -> bool:  # noqa: ARG002
        """A forward pass of this network follows; whether its tensors are kept."""
        return False

    def gradients(self) -> None:
        """The gradients of a step that is kept are there, unscaled and not yet clipped."""

    def record(self, collection: Collection, value: Tensor) -> None:
        """Keep a tensor that no module gives away; only after `forward` said so."""

    def wants_norm(self, step: int) -> bool:  # noqa: ARG002
        """Whether the gradients' norm of this step is to be measured."""
        return False

    def stepped(self, facts: StepFacts) -> None:
        """An optimiser step is done."""

    def stop_asked(self) -> str | None:
        """Why training is to end now, with the model so far; None if it is not."""
        return None

    def end_training(self) -> None:
        """The last step is done; every rank says so, while they can still talk to each other."""

    def conclude(self) -> None:
        """The artifact and the evaluation are written: rank 0 makes its last statements."""

    def abandon(self) -> None:
        """The job ends early: let go of everything; what is written stays. Harmless at the end."""

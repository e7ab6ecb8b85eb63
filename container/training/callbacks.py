"""The training loop's callback interface, which the debugger and the profiler implement.

The base class does nothing and imports neither smdebug nor the profiler.
`container.monitoring.monitor` has the implementation that debugs and profiles.
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
    """Metrics of one optimizer step.

    Attributes:
        step: its number, from 0.
        epoch: its epoch, from 1.
        loss: scalar, on the device, detached.
        learning_rate: the learning rate of this step.
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
        can_stop: whether `stop_reason` may ever return a reason; the same on every rank.
    """

    can_stop = False

    def setup(
        self, network: nn.Module, device: torch.device, steps: int, facts: Mapping[str, object]
    ) -> None:
        """Called once the network is built.

        Args:
            network: the network without DDP, on its device.
            device: the device.
            steps: optimizer steps of the whole job.
            facts: the job's values for the report.
        """

    def on_train_start(self, first_step: int, first_eval_step: int) -> None:
        """Called before training with the first steps of both modes; not 0 when resuming."""

    def batches(self, mode: Mode, batches: Iterable[T], first_step: int) -> Iterator[T]:  # noqa: ARG002
        """Iterate over batches; each begins a step of `mode`."""
        return iter(batches)

    def phase(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002
        """A context around one phase of a step, or of the job outside of steps."""
        return _NOTHING

    def on_before_forward(self, mode: Mode, network: nn.Module) -> bool:  # noqa: ARG002
        """Called before a forward pass; returns whether its tensors are saved."""
        return False

    def on_after_backward(self) -> None:
        """Called in a step that is saved, with gradients unscaled and not yet clipped."""

    def record(self, collection: Collection, value: Tensor) -> None:
        """Save a tensor that no module outputs; called only if `on_before_forward` was true."""

    def wants_gradient_norm(self, step: int) -> bool:  # noqa: ARG002
        """Whether to measure the gradient norm of this step."""
        return False

    def on_step_end(self, metrics: StepMetrics) -> None:
        """Called after each optimizer step."""

    def stop_reason(self) -> str | None:
        """Why training must end now with the model so far; None to continue."""
        return None

    def on_train_end(self) -> None:
        """Called after the last step, on every rank while they can still communicate."""

    def on_fit_end(self) -> None:
        """Called on rank 0 once the artifact and the evaluation are written."""

    def teardown(self) -> None:
        """Release all resources at the job's end, whether or not it succeeded."""

"""The state of training, saved to and loaded from checkpoints.

Two kinds: tensors (the network's, the optimiser's, the moving average's) and counters, which are
JSON.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from container.models import load_tensors, not_finite
from container.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    flatten_optimizer,
    unflatten_optimizer,
)


@dataclass
class TrainingProgress:
    """The counters of a run: everything in a checkpoint besides tensors.

    Attributes:
        epoch: the epoch under way, from 0.
        batch: batches of it already trained on.
        step: optimiser steps since the start.
        sums: this epoch's loss, hits and images so far (summed over this rank's batches).
        best: best validation accuracy, -1 before the first.
        best_epoch: the epoch (from 1) that reached it, 0 before the first.
        history: one record of metrics an epoch; None where one was not finite.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)


@dataclass
class TrainingState:
    """The complete state of training.

    Attributes:
        network: being trained.
        optimizer: of its parameters.
        scaler: of the loss, for float16.
        ema: the moving average of the network's weights, if one is kept.
        progress: the counters.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None
    progress: TrainingProgress = field(default_factory=TrainingProgress)

    @property
    def is_finite(self) -> bool:
        """Whether the network that is kept, batch statistics too, holds finite numbers alone."""
        return not_finite(self.kept) is None

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the moving average's, if there is one."""
        return self.network if self.ema is None else self.ema.module

    def save(self, checkpoints: CheckpointFolder) -> None:
        """Write a checkpoint of this step. Raises TrainingError when the disk is full."""
        tensors, values = flatten_optimizer(self.optimizer.state_dict())
        tensors |= {f"model/{k}": v for k, v in self.network.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{k}": v for k, v in self.ema.state_dict().items()}
        counters = {
            "progress": asdict(self.progress),
            "optimizer": values,
            "scaler": self.scaler.state_dict(),
        }
        checkpoints.save(self.progress.step, tensors, counters)

    def load(self, checkpoint: Checkpoint, *, main: bool) -> None:
        """Resume from a checkpoint; `main` is whether this is rank 0."""
        tensors, counters = checkpoint.tensors, checkpoint.counters

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        load_tensors(self.network, part("model/"))
        if self.ema is not None:
            load_tensors(self.ema, part("ema/"))
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(unflatten_optimizer(tensors, counters["optimizer"], groups))
        self.scaler.load_state_dict(counters["scaler"])
        self.progress = TrainingProgress(**counters["progress"])
        if not main:
            # The sums in a checkpoint are of all ranks, so only one rank resumes them.
            self.progress.sums = [0.0, 0.0, 0.0]

    def restore_best(self, checkpoints: CheckpointFolder, say: Callable[[str], None]) -> None:
        """Put the best epoch's weights into the network; the last epoch's if they are lost."""
        best = checkpoints.load_best()
        if best is not None and best.counters["epoch"] == self.progress.best_epoch:
            load_tensors(self.network, best.tensors)
            return
        say("the best epoch's weights are not in the checkpoints: keeping the last epoch's")
        self.network.load_state_dict(self.kept.state_dict())


def moving_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of the network's weights and buffers; None for a decay of 0."""
    if not decay:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)

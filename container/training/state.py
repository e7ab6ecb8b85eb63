"""The state of training, saved to and loaded from checkpoints.

It consists of tensors (of the network, the optimizer and the moving average) and of counters,
stored as JSON.
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
    """The counters of a run: everything in a checkpoint but its tensors.

    Attributes:
        epoch: the current epoch, from 0.
        batch: batches of this epoch trained on so far.
        step: optimizer steps since the start.
        sums: loss, correct predictions and images of this epoch so far, summed over this rank.
        best: best validation accuracy, -1 before the first.
        best_epoch: the epoch (from 1) that reached it, 0 before the first.
        history: one record of metrics per epoch, None for a value that was not finite.
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
        network: the network in training.
        optimizer: the optimizer of its parameters.
        scaler: scales the loss for float16.
        ema: the moving average of the network's weights, if there is one.
        progress: the counters.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None
    progress: TrainingProgress = field(default_factory=TrainingProgress)

    @property
    def is_finite(self) -> bool:
        """Whether all weights and batch statistics of `kept` are finite."""
        return not_finite(self.kept) is None

    @property
    def kept(self) -> nn.Module:
        """The network to validate and save: the moving average, if there is one."""
        return self.network if self.ema is None else self.ema.module

    def save(self, checkpoints: CheckpointFolder) -> None:
        """Write a checkpoint of this step. Raises TrainingError if the disk is full."""
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
        """Load a checkpoint.

        Args:
            main: whether this is rank 0.
        """
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
            # A checkpoint has the sums over all ranks, so only rank 0 continues them.
            self.progress.sums = [0.0, 0.0, 0.0]

    def restore_best(self, checkpoints: CheckpointFolder, say: Callable[[str], None]) -> None:
        """Load the best epoch's weights into the network, or the last epoch's if they are lost."""
        best = checkpoints.load_best()
        if best is not None and best.counters["epoch"] == self.progress.best_epoch:
            load_tensors(self.network, best.tensors)
            return
        say("the checkpoints lack the best epoch's weights; using the last epoch's")
        self.network.load_state_dict(self.kept.state_dict())


def moving_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of the network's weights and buffers; None for a decay of 0."""
    if not decay:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)

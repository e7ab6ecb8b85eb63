"""The optimiser, the learning-rate schedule and the loss a job's hyperparameters describe."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from container.hyperparameters import Hyperparameters

REMEDIES = "try a lower learning_rate, warmup_epochs=1 or gradient_clip=1"
"""Against a loss that is not finite."""


def make_optimizer(network: nn.Module, hp: Hyperparameters) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the parameters that require a gradient.

    Biases and the parameters of norm layers (every tensor of fewer than two dimensions) take no
    weight decay: He et al. 2019, Bag of Tricks, section 3.1.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": hp.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if hp.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=hp.learning_rate, momentum=hp.momentum, nesterov=hp.nesterov
        )
    kind = torch.optim.AdamW if hp.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=hp.learning_rate, eps=hp.eps)


def learning_rate_at(step: int, hp: Hyperparameters, steps_per_epoch: int) -> float:
    """The learning rate of a step (from 0), a pure function so that resuming needs no state.

    Linear warm-up over `warmup_epochs`, then constant or half a cosine down to zero at the end:
    Loshchilov and Hutter 2017, SGDR, equation 5 with one period.
    """
    total = hp.epochs * steps_per_epoch
    warmup = min(round(hp.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return hp.learning_rate * (step + 1) / warmup
    if hp.schedule == "constant":
        return hp.learning_rate
    progress = (step - warmup) / max(1, total - warmup)
    return hp.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def balanced_class_weights(labels: npt.NDArray[np.int64], classes: int) -> Tensor:
    """float32 (C,): images / (classes x images of the class), scikit-learn's `balanced`."""
    counts = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(counts, 1)), dtype=torch.float32)


def clip_gradients(
    parameters: Iterable[nn.Parameter], largest: float, *, measure: bool = False
) -> Tensor | None:
    """Scale the gradients down to a joint L2 norm of `largest`; 0 leaves them alone.

    Returns:
        That norm before, a scalar on the device; None if it was neither needed nor to be measured.
    """
    if largest:
        return torch.nn.utils.clip_grad_norm_(parameters, largest)
    if measure:
        gradients = [each.grad for each in parameters if each.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)
    return None

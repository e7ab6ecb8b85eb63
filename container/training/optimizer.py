"""Optimizer, learning-rate schedule, class weights and gradient clipping."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from container.hyperparameters import Hyperparameters

REMEDIES = "try a lower learning_rate, warmup_epochs=1 or gradient_clip=1"
"""What to try when the loss is not finite."""


def make_optimizer(network: nn.Module, hp: Hyperparameters) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the parameters that require a gradient.

    Biases and the parameters of norm layers (every tensor of fewer than two dimensions) take no
    weight decay: He et al. 2019, Bag of Tricks, section 3.1. With `layer_decay` below 1, each stage
    has its own groups, and their `lr_scale` is the factor of their learning rate: Clark et al.
    2020, ELECTRA, appendix A.
    """
    groups: list[dict[str, Any]] = []
    for scale, parameters in _by_stage(network, hp.layer_decay):
        for penalized in (True, False):
            members = [each for each in parameters if (each.ndim > 1) == penalized]
            if members or scale == 1:
                decay = hp.weight_decay if penalized else 0.0
                groups.append({"params": members, "weight_decay": decay, "lr_scale": scale})
    if hp.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=hp.learning_rate, momentum=hp.momentum, nesterov=hp.nesterov
        )
    kind = torch.optim.AdamW if hp.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=hp.learning_rate, eps=hp.eps)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the last stage, and scale the other stages' by their `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def _by_stage(network: nn.Module, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """For each stage, last to first: its `lr_scale` and its trainable parameters."""
    trained = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    if decay == 1:
        return [(1.0, [parameter for _, parameter in trained])]
    stages: dict[str, list[nn.Parameter]] = {}
    for name, parameter in trained:
        stages.setdefault(stage_of(network, name), []).append(parameter)
    last_first = reversed(list(stages.values()))
    return [(decay**depth, parameters) for depth, parameters in enumerate(last_first)]


def stage_of(network: nn.Module, parameter: str) -> str:
    """The stage of a parameter, as a module name.

    A stage is a child of the network, or a member of a child that is a sequence of blocks: ResNet's
    `layer1`, EfficientNet's `features.3`, a vision transformer's `blocks.7`.
    """
    module, stage = network, ""
    for part in parameter.split(".")[:-1]:
        stage = f"{stage}.{part}".lstrip(".")
        module = module.get_submodule(part)
        children = [child for child in module.children() if any(True for _ in child.parameters())]
        if not isinstance(module, nn.Sequential | nn.ModuleList) or _is_block(children):
            break
    return stage


def _is_block(children: list[nn.Module]) -> bool:
    """Whether the members of a sequence are single layers, not blocks or sequences."""
    return len(children) < 2 or not any(True for each in children for _ in each.children())


def learning_rate_at(step: int, hp: Hyperparameters, steps_per_epoch: int) -> float:
    """The learning rate of a step (from 0). A pure function, so resuming needs no state.

    Linear warm-up over `warmup_epochs`, then constant or half a cosine down to zero:
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
    """Clip the gradients to a total L2 norm of `largest`; 0 does not clip.

    Returns:
        The total norm before clipping, a scalar on the device; None if `largest` is 0 and `measure`
        is false.
    """
    if largest:
        return torch.nn.utils.clip_grad_norm_(parameters, largest)
    if measure:
        gradients = [each.grad for each in parameters if each.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)
    return None

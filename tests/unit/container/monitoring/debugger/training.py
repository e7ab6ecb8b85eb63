"""Trains tiny networks with the tensor hook and opens the saved tensors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.settings import HookSettings
from container.monitoring.debugger.smdebug_fixes import open_trial
from container.rules.requests import RuleRequest

Data = tuple[Tensor, Tensor]
"""Inputs (N, …) float32 as the network takes them, labels (N,) int64."""


def settings_for(
    folder: Path,
    *,
    save_interval: int = 1,
    collections: Sequence[str] = ("losses", "weights", "biases", "gradients"),
    rules: Sequence[RuleRequest] = (),
    tensorboard: bool = False,
) -> HookSettings:
    """Return settings for a job whose base directory is `folder`."""
    return HookSettings.read(
        folder,
        save_interval=save_interval,
        collections=collections,
        tensorboard=tensorboard,
        rules=rules,
    )


def random_data(
    count: int = 64, *, size: int = 8, classes: int = 4, channels: int = 3, seed: int = 0
) -> Data:
    """Return images (count, channels, size, size) of noise around a class mean, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    means = torch.randn(classes, channels, size, size, generator=generator)
    noise = torch.randn(count, channels, size, size, generator=generator)
    return means[labels] + 0.5 * noise, labels


def tiny_network(
    *, size: int = 8, classes: int = 4, channels: int = 3, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Build two convolutions, each with an activation, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        activation(),
        nn.Conv2d(8, 8, 3, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(8 * size * size, classes),
    )


class ResNet(nn.Module):
    """One residual block as in torchvision: a single in-place ReLU, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        first = self.relu(self.bn1(self.conv1(images)))
        second = self.relu(self.conv2(first) + first)
        return self.fc(self.drop(second.mean((2, 3))))


def train_tiny(
    network: nn.Module,
    data: Data,
    steps: int,
    settings: HookSettings,
    *,
    validation: Data | None = None,
    validate_every: int | None = None,
    batch_size: int = 16,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    before_step: Callable[[int], None] | None = None,
    first_step: int = 0,
    seed: int = 0,
) -> Any:
    """Train with SGD and open what was saved.

    Args:
        network: inputs to logits (N, C); trained in place.
        data: training data; batches cycle through it in order.
        steps: training steps to do.
        settings: what to save; see `settings_for`.
        validation: held-out data; all of it is validated on every `validate_every` steps (every
            round of the training data by default) and after the last.
        before_step: called with the number of each training step before it.
        first_step: the number of the first step.

    Returns:
        The trial, `create_trial(settings.path)`.
    """
    torch.manual_seed(seed)
    inputs, labels = data
    per_round = -(-len(labels) // batch_size)
    every = validate_every or per_round
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=momentum)
    hook = TensorHook(settings, network, first_step=first_step)
    for step in range(first_step, first_step + steps):
        if before_step is not None:
            before_step(step)
        start = (step % per_round) * batch_size
        batch = slice(start, start + batch_size)
        network.train()
        _pass(hook, network, inputs[batch], labels[batch], optimizer)
        if validation is not None and ((step + 1) % every == 0 or step == first_step + steps - 1):
            validate(hook, network, validation, batch_size)
    hook.close()
    return open_trial(settings.path)


def validate(hook: TensorHook, network: nn.Module, data: Data, batch_size: int = 16) -> None:
    """Run one pass over held-out data."""
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(data[1]), batch_size):
            batch = slice(start, start + batch_size)
            _pass(hook, network, data[0][batch], data[1][batch], None)


def _pass(
    hook: TensorHook,
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    saved = hook.step("eval" if optimizer is None else "train")
    logits = network(inputs)
    loss = F.cross_entropy(logits.float(), labels)
    if saved:
        hook.record("inputs", inputs)
        hook.record("labels", labels)
        hook.record("predictions", torch.softmax(logits.detach().float(), 1))
        hook.record("losses", loss)
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        hook.gradients()
        optimizer.step()


def one_step(hook: TensorHook, network: nn.Module) -> Tensor:
    """Run one training step, saved or not, without an optimiser, and return its loss."""
    inputs, labels = random_data(8)
    hook.step("train")
    loss = F.cross_entropy(network(inputs).float(), labels)
    hook.record("losses", loss)
    loss.backward()
    hook.gradients()
    return loss.detach()

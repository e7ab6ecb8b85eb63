"""Runs rules on real training of tiny networks, and on synthetic values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.rules.base import DebugRule
from container.monitoring.debugger.rules.registry import make
from container.monitoring.debugger.smdebug_fixes import RuleEvaluationConditionMet, open_trial
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleRequest, parse_rules
from tests.unit.container.monitoring.debugger.training import Data, settings_for, train_tiny

R = TypeVar("R", bound=DebugRule)

REGEX = "input_images"
"""The name of the tensor that `saved` writes."""


def request(rule: str, **parameters: Any) -> RuleRequest:
    """Return a request for a rule by name, with these parameters instead of the defaults."""
    overrides = {f"{rule}_{name}": value for name, value in parameters.items()}
    return parse_rules(DEBUG_RULES, [rule], overrides)[0]


def make_rule(kind: type[R], trial: Any, **parameters: Any) -> R:
    """Make a rule, with the catalogue's defaults for the parameters not given."""
    defaults = {name: each.default for name, each in DEBUG_RULES[kind.__name__].parameters.items()}
    return kind(trial, **(defaults | parameters))


def vectors(samples: int = 32, features: int = 8, classes: int = 3) -> Data:
    """Return the same data at every call: one Gaussian per class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    centres = 2 * torch.randn(classes, features, generator=generator)
    return centres[labels] + torch.randn(samples, features, generator=generator), labels


def layers(*widths: int, activation: type[nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    """Build a network from `vectors` to logits: He-initialised linear layers with activations."""
    torch.manual_seed(seed)
    network = nn.Sequential()
    sizes = (8, *widths, 3)
    for place, (before, after) in enumerate(pairwise(sizes)):
        linear = nn.Linear(before, after)
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        network.append(linear)
        if place < len(widths):
            network.append(activation())
    return network


def train(
    folder: Path,
    network: nn.Module,
    rules: Sequence[RuleRequest] = (),
    *,
    steps: int = 4,
    data: Data | None = None,
    reductions: str = "",
    **options: Any,
) -> Any:
    """Train on the full batch, saving only the losses and what the rules read.

    With `reductions`, everything is saved, but only as these.
    """
    data = data or vectors()
    if reductions:
        save_everything(folder, reductions)
    settings = settings_for(folder, collections=["losses"], rules=rules)
    return train_tiny(network, data, steps, settings, batch_size=len(data[1]), **options)


def saved(
    folder: Path,
    values: Iterable[Tensor],
    *,
    modes: str = "",
    reductions: str = "",
    network: nn.Module | None = None,
) -> Any:
    """Return a trial with these values, one per step, as `input_images`.

    Args:
        folder: the job's tree.
        values: of any shape and dtype.
        modes: a letter per step, t for training or e for evaluation; by default all are training.
        reductions: as in `debughookconfig.json`; the whole tensors are then not saved.
        network: receives the values too.
    """
    save_everything(folder, reductions)
    settings = settings_for(folder)
    network = network or nn.Identity()
    hook = TensorHook(settings, network)
    for place, value in enumerate(values):
        hook.step("eval" if modes[place : place + 1] == "e" else "train")
        hook.record("inputs", value)
        network(value)
    hook.close()
    return open_trial(settings.path)


def save_everything(folder: Path, reductions: str) -> None:
    """Make a job save all tensors, whole or as reductions, with a `debughookconfig.json`."""
    parameters = {"include_regex": ".*"} | ({"reductions": reductions} if reductions else {})
    file = folder / "input" / "config" / "debughookconfig.json"
    file.parent.mkdir(parents=True)
    chosen = {"CollectionName": "everything", "CollectionParameters": parameters}
    file.write_text(json.dumps({"CollectionConfigurations": [chosen]}))


def fired(rule: Any, trial: Any) -> list[int]:
    """Return the global steps at which a rule fires, invoked as by smdebug's driver."""
    found = []
    for step in trial.steps():
        try:
            rule.invoke(step)
        except RuleEvaluationConditionMet as met:
            found.append(met.step)
    return found


def judge(
    folder: Path, network: nn.Module, rule: str, parameters: Mapping[str, Any] = {}, **options: Any
) -> tuple[list[int], Any]:
    """Train while saving what a rule reads; return the steps at which it fired, and the rule."""
    asked = request(rule, **parameters)
    trial = train(folder, network, [asked], **options)
    made = make(asked, trial)
    return fired(made, trial), made

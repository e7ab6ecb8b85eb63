"""Where each debugger rule lives; a rule's module is imported when the rule is made."""

import importlib
from collections.abc import Mapping
from typing import Any

from container.rules.requests import RuleError, RuleRequest

_PACKAGE = "container.monitoring.debugger.rules"

LOCATIONS: Mapping[str, str] = {
    name: f"{_PACKAGE}.{module}:{name}"
    for module, names in {
        "gradients": ("VanishingGradient", "ExplodingTensor"),
        "activations": ("DeadRelu", "SaturatedActivation"),
        "weights": ("PoorWeightInitialization", "WeightUpdateRatio"),
        "tensors": ("AllZero", "TensorVariance", "UnchangedTensor", "SimilarAcrossRuns"),
        "losses": ("LossNotDecreasing", "Overfit", "Overtraining"),
        "stalled_training": ("StalledTrainingRule",),
        "predictions": ("ClassImbalance", "Confusion"),
        "inputs": ("CheckInputImages",),
    }.items()
    for name in names
}
"""A rule's name → `module:Class`, for every rule of `container.rules.debugger`."""


def make(request: RuleRequest, trial: Any) -> Any:
    """The rule that was asked for, ready to be invoked step by step.

    Args:
        request: one of the catalogue's rules, with all its parameters.
        trial: an smdebug trial, what `smdebug.trials.create_trial` returns.

    Returns:
        An `smdebug.rules.rule.Rule`.

    Raises:
        RuleError: the rule is not one of these, or its parameters make no sense together.
    """
    location = LOCATIONS.get(request.rule)
    if location is None:
        raise RuleError(f"rule {request.rule!r} is not one of {', '.join(sorted(LOCATIONS))}")
    module, _, name = location.partition(":")
    return getattr(importlib.import_module(module), name)(trial, **request.parameters)

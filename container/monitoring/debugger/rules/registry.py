"""Creates debugger rules by name; a rule's module is imported with its first instance."""

import importlib
from collections.abc import Mapping
from typing import Any

from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleError, RuleRequest

_PACKAGE = "container.monitoring.debugger.rules"

LOCATIONS: Mapping[str, str] = {
    name: f"{_PACKAGE}.{module}:{name}"
    for module, names in {
        "gradients": ("VanishingGradient", "ExplodingTensor"),
        "activations": ("DeadRelu", "SaturatedActivation"),
        "weights": ("PoorWeightInitialization", "WeightUpdateRatio"),
        "tensors": ("AllZero", "TensorVariance", "UnchangedTensor", "SimilarAcrossRuns"),
        "losses": ("LossNotDecreasing",),
        "overfitting": ("Overfit", "Overtraining"),
        "stalled_training": ("StalledTrainingRule",),
        "predictions": ("ClassImbalance", "Confusion"),
        "inputs": ("CheckInputImages",),
    }.items()
    for name in names
}
"""A rule's name → `module:Class`, for every rule of `container.rules.debugger`."""


def make(request: RuleRequest, trial: Any) -> Any:
    """Create a rule, with the catalogue's defaults for parameters that are not given.

    Args:
        request: one of the catalogue's rules.
        trial: an smdebug trial, what `smdebug.trials.create_trial` returns.

    Returns:
        An `smdebug.rules.rule.Rule`.

    Raises:
        RuleError: the rule is unknown, or its parameters contradict each other.
    """
    location = LOCATIONS.get(request.rule)
    if location is None:
        raise RuleError(f"rule {request.rule!r} is not one of {', '.join(sorted(LOCATIONS))}")
    module, _, name = location.partition(":")
    defaults = {key: each.default for key, each in DEBUG_RULES[name].parameters.items()}
    rule = getattr(importlib.import_module(module), name)
    return rule(trial, **{**defaults, **request.parameters})

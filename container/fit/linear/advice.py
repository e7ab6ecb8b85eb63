"""Advice on which images to collect next, within a share of the job's time."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from container.fit.budget import TimeBudget
from container.fit.linear.learning_curve import CurveData, Halving, LearningCurve, NoCurve, advise
from container.fit.linear.selection import LabelledFeatures

SHARE = 0.1
"""Share of the free time for the learning curve and the halving of classes."""


def learn(
    train: LabelledFeatures,
    validation: LabelledFeatures,
    classes: Sequence[str],
    strength: float,
    seed: int,
    device: torch.device,
    budget: TimeBudget,
    require_running: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The learning curve and the halving of classes on a probe's features, as JSON values.

    The time for the curve decides whether there is time to halve classes.

    Args:
        require_running: raises where the job is to stop; called between probes.

    Returns:
        `curve` or, why there is none, `no_curve`; `halvings`; `advice` in words.
    """
    allowed, began = SHARE * budget.free, budget.elapsed
    data = CurveData(train, validation, classes, strength, seed, device, require_running)
    found: dict[str, Any] = {}
    curve: LearningCurve | None = None
    try:
        curve = data.curve()
        found["curve"] = asdict(curve)
    except NoCurve as reason:
        found["no_curve"] = str(reason)
    took = budget.elapsed - began
    halvings: list[Halving] = []
    # A class takes at least as many probes of all images as the last point of the curve.
    if took * min(len(classes), 20) / 4 <= allowed:
        halvings = data.halvings()
    found["halvings"] = [asdict(each) for each in halvings]
    found["advice"] = advise(curve, halvings)
    return found

"""What a fit job says to photograph next, as far as its time allows to find out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from container.fit.budget import TimeBudget
from container.fit.linear.learning_curve import CurveData, Halving, LearningCurve, NoCurve, advise
from container.fit.linear.selection import LabelledFeatures

SHARE = 0.1
"""Of the free time, that the learning curve and the classes' halving may take."""


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
    """The learning curve and the classes' halving on a probe's features, as JSON.

    The curve comes first; how long it took tells whether there is time for the classes.

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
    # As many probes of all images for each class as the curve has at its last point, at least.
    if took * min(len(classes), 20) / 4 <= allowed:
        halvings = data.halvings()
    found["halvings"] = [asdict(each) for each in halvings]
    found["advice"] = advise(curve, halvings)
    return found

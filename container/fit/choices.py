"""Choices a fit job makes itself, each with a reason for the log and the page."""

import math
from dataclasses import dataclass

PHOTOGRAPH = 0.6
"""An image counts as a photograph if its shorter side has at least this share of the network's
input size: smaller inputs would lose detail."""
SIZES = (64, 96, 128, 160, 192)
"""Input sizes to try for smaller images, in addition to the network's own."""
LEAST_SCALE, MOST_SCALE = 1.5, 16.0
"""Range of factors to enlarge small images by: networks trained on ImageNet expect larger shapes
than an 8- or 32-pixel image has."""
MANY_EPOCHS = 24
"""Epochs of fine-tuning, at most: more would overfit and leave no time for another round."""


@dataclass(frozen=True)
class Choice:
    """A decision and why.

    Attributes:
        what: the decision.
        why: its reason.
    """

    what: str
    why: str

    def __str__(self) -> str:
        """A line for the log."""
        return f"chosen: {self.what}, as {self.why}"


def candidate_sizes(own: int, side: int) -> tuple[int, ...]:
    """Input sizes to try for a network of its own input size and images of a median shorter side.

    Photographs get the network's own size. Smaller images are tried enlarged to several sizes.
    """
    if side >= PHOTOGRAPH * own:
        return (own,)
    sizes = [s for s in SIZES if LEAST_SCALE * side <= s < own and s <= MOST_SCALE * side]
    if own <= MOST_SCALE * side or not sizes:
        sizes.append(own)
    return tuple(sizes)


def epochs_for(seconds: float, epoch_seconds: float) -> int:
    """Whole epochs that fit, at most `MANY_EPOCHS`."""
    return min(math.floor(seconds / epoch_seconds), MANY_EPOCHS)


def batch_size_for(images: int) -> int:
    """Batch size: 32, or less for small data sets so that an epoch has several steps."""
    return 32 if images >= 640 else 16 if images >= 160 else 8


def ema_for(steps: int) -> float:
    """The decay of a moving average over the last tenth of the steps, at least ten."""
    return round(1 - 1 / max(10.0, steps / 10), 5)

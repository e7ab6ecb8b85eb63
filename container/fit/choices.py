"""What a fit job chooses by itself: input sizes, augmentation, epochs and learning rates.

Each choice comes with its reason, a line for the log and the page.
"""

import math
from dataclasses import dataclass

PHOTOGRAPH = 0.6
"""Share of a network's input that an image's shorter side has, from which on it counts as a
photograph: sizes below the network's own would throw detail away."""
SIZES = (64, 96, 128, 160, 192)
"""Inputs tried for smaller images, besides the network's own."""
LEAST_SCALE, MOST_SCALE = 1.5, 16.0
"""By how much a small image is enlarged: ImageNet's networks look for shapes of more pixels than an
8- or 32-pixel image has."""
MANY_EPOCHS = 24
"""Epochs of fine-tuning, at most: more overfit and leave no time for another try."""


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
    """Images a step: 32, and of small data sets fewer, so that an epoch has some steps."""
    return 32 if images >= 640 else 16 if images >= 160 else 8


def ema_for(steps: int) -> float:
    """The moving average's decay: over the last tenth of the steps, at least over ten of them."""
    return round(1 - 1 / max(10.0, steps / 10), 5)

"""What a model loses when it is served in bfloat16, as `model.json` records it.

bfloat16 keeps float32's range and 8 of its 24 significant bits, and processors that have it (AMX,
AVX512_BF16, GPUs since Ampere) multiply it at twice float32's rate or more. How much of a model's
accuracy that costs is measured when it was trained, so that the choice at deployment is an informed
one. Imports no torch: servers on a CPU read this too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

ENOUGH = 0.99
"""Share of float32's accuracy that has to remain; MLPerf Inference asks as much of ResNet-50."""


@dataclass(frozen=True)
class Bfloat16:
    """A model in bfloat16 beside itself in float32, on the same held-out images.

    Attributes:
        images: how many.
        accuracy, float32_accuracy: share of them that is labelled right, 0..1.
        same_label: share whose most probable class is the same, right or wrong.
        max_difference: largest difference of one probability.
    """

    images: int
    accuracy: float
    float32_accuracy: float
    same_label: float
    max_difference: float

    @property
    def good_enough(self) -> bool:
        """Whether so much accuracy remains that bfloat16 may be served."""
        return self.accuracy >= ENOUGH * self.float32_accuracy

    def __str__(self) -> str:
        """One line for a log."""
        return (
            f"accuracy {self.accuracy:.4f} on {self.images} images, {self.float32_accuracy:.4f} in "
            f"float32; {100 * self.same_label:.1f} % of labels the same, probabilities within "
            f"{self.max_difference:.1e}"
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`. Raises KeyError, TypeError or ValueError."""
        shares = ("accuracy", "float32_accuracy", "same_label", "max_difference")
        return cls(int(value["images"]), *(float(value[name]) for name in shares))

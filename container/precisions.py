"""What it costs a model to be served in less than float32, measured after training.

Both costs travel in `model.json`, so that the choice at deployment is an informed one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

BFLOAT16_ACCURACY = 0.99
"""Share of float32's accuracy that has to remain, as MLPerf Inference requires of ResNet-50."""


@dataclass(frozen=True)
class PrecisionCost:
    """A model in another precision beside itself in float32, on the same held-out images.

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

    def __str__(self) -> str:
        """One line for a log."""
        return (
            f"accuracy {self.accuracy:.4f} on {self.images} images, {self.float32_accuracy:.4f} in "
            f"float32; {100 * self.same_label:.1f} % of labels the same, probabilities within "
            f"{self.max_difference:.1e}"
        )


@dataclass(frozen=True)
class Bfloat16(PrecisionCost):
    """The cost of bfloat16.

    It keeps float32's range and 8 of its 24 significant bits, and processors that have it
    (AMX, AVX512_BF16, GPUs since Ampere) multiply it at twice float32's rate or more.
    """

    @property
    def good_enough(self) -> bool:
        """Whether so much accuracy remains that bfloat16 may be served."""
        return self.accuracy >= BFLOAT16_ACCURACY * self.float32_accuracy

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`. Raises KeyError, TypeError or ValueError."""
        return cls(**_cost(value))


@dataclass(frozen=True)
class Int8(PrecisionCost):
    """The cost of int8, for which a graph of its own is made.

    Attributes:
        tolerance: percentage points of accuracy it may lose.
        calibration_images: training images that the ranges of activations come from.
    """

    tolerance: float
    calibration_images: int

    @property
    def good_enough(self) -> bool:
        """Whether so much accuracy remains that the graph is kept and may be served."""
        lost = 100 * (self.float32_accuracy - self.accuracy)
        return lost <= self.tolerance + 1e-9

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`. Raises KeyError, TypeError or ValueError."""
        return cls(
            **_cost(value),
            tolerance=float(value["tolerance"]),
            calibration_images=int(value["calibration_images"]),
        )


def _cost(value: Mapping[str, Any]) -> dict[str, Any]:
    shares = ("accuracy", "float32_accuracy", "same_label", "max_difference")
    return {"images": int(value["images"])} | {name: float(value[name]) for name in shares}

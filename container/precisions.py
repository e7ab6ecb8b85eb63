"""The accuracy of a model in bfloat16 and int8, measured after training.

Both are recorded in `model.json` for the choice at deployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

BFLOAT16_ACCURACY = 0.99
"""Share of float32's accuracy that must remain: MLPerf Inference's requirement for ResNet-50."""


@dataclass(frozen=True)
class PrecisionCost:
    """A model in a lower precision compared with float32 on the same held-out images.

    Attributes:
        images: number of images.
        accuracy, float32_accuracy: share of correct predictions, 0..1.
        same_label: share of images with the same most probable class, correct or not.
        max_difference: largest difference of a probability.
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
    """The accuracy in bfloat16.

    It has float32's range and 8 of its 24 significant bits. Processors that support it (AMX,
    AVX512_BF16, GPUs since Ampere) multiply at twice float32's rate or more.
    """

    @property
    def good_enough(self) -> bool:
        """Whether enough accuracy remains to serve in bfloat16."""
        return self.accuracy >= BFLOAT16_ACCURACY * self.float32_accuracy

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`. Raises KeyError, TypeError or ValueError."""
        return cls(**_cost(value))


@dataclass(frozen=True)
class Int8(PrecisionCost):
    """The accuracy in int8, which has its own graph.

    Attributes:
        tolerance: percentage points of accuracy it may lose.
        calibration_images: training images used to calibrate ranges of activations.
    """

    tolerance: float
    calibration_images: int

    @property
    def good_enough(self) -> bool:
        """Whether enough accuracy remains to keep and serve the graph."""
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

"""Predefined searches for `berth tune DATA --preset NAME`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from container.hyperparameters import Hyperparameters
from local.errors import UserError
from local.requests.tuning import Range

RATE = "learning_rate=0.001:0.1:log"
EPOCHS = "epochs=2:4:int"


@dataclass(frozen=True)
class Preset:
    """A predefined search.

    Attributes:
        summary: one line on what it searches.
        ranges: the ranges, in the form of --range.
        hyperparameters: fixed hyperparameters.
        jobs: most trials.
        parallel: most parallel trials.
    """

    summary: str
    ranges: tuple[str, ...]
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 10
    parallel: int = 2

    def parsed(self) -> tuple[Range, ...]:
        """The parsed ranges."""
        return tuple(map(Range.parse, self.ranges))


def _around_default(name: str) -> str:
    """A logarithmic range from a tenth of a hyperparameter's default to ten times the default."""
    default: Any = Hyperparameters.model_fields[name].default
    return f"{name}={default / 10:.12g}:{default * 10:.12g}:log"


PRESETS = {
    "resnet50-frozen": Preset(
        "learning rate, batch size and epochs of a head on a frozen ResNet-50",
        (RATE, "batch_size=32,64,128", EPOCHS),
        {"arch": "resnet50", "freeze": "true"},
    ),
    "batch-size": Preset(
        "learning rate and batch sizes from 16 to 512",
        (RATE, "batch_size=16,32,64,128,256,512"),
    ),
    "momentum-cifar10": Preset(
        "learning rate, momentum and epochs of a ResNet-18 with SGD on CIFAR-10",
        (RATE, "momentum=0.1:1", EPOCHS),
        {"arch": "resnet18", "optimizer": "sgd", "weights": "none", "image_size": "32"},
    ),
    "adamw": Preset(
        "AdamW's learning rate, eps and weight decay, a tenth to ten times their defaults",
        (
            _around_default("learning_rate"),
            _around_default("eps"),
            _around_default("weight_decay"),
            "batch_size=32,64",
        ),
        {"optimizer": "adamw"},
        jobs=20,
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UserError: there is none; the message lists the presets.
    """
    if name not in PRESETS:
        raise UserError(f"--preset: found {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]

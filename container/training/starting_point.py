"""What a job's network starts from, settled and checked before the first image is read."""

from dataclasses import dataclass
from pathlib import Path

import torch

from container.hyperparameters import Hyperparameters
from container.models import build_network, has_small_stem
from container.training.weights import Weights, earlier_stem, find_weights, require_fit


@dataclass(frozen=True)
class StartingPoint:
    """The first layers' kind, and the pretrained weights; None where there are none to load.

    Other ranks than the main one load none: DDP hands them over.
    """

    stem: str
    weights: Weights | None

    @classmethod
    def find(cls, hp: Hyperparameters, channel: Path | None, *, main: bool) -> "StartingPoint":
        """Settle what `hp` leaves open, and see that all of it fits together.

        The network is built without memory for its tensors where torchvision can do so (RegNet
        computes its widths with tensors), so this costs a fraction of a second.

        Raises:
            ModelError: the architecture, its stem, head or image size are not possible.
            WeightsError: the weights are not there or do not fit.
        """
        stem: str = hp.stem
        if stem == "auto":
            earlier = earlier_stem(hp.weights, hp.arch, channel)
            small = hp.image_size <= 64 and hp.weights.lower() == "none" and has_small_stem(hp.arch)
            stem = earlier or ("small" if small else "standard")
        with torch.device("cpu" if hp.arch.startswith("regnet") else "meta"):
            network, head = build_network(
                hp.arch,
                2,
                image_size=hp.image_size,
                stem=stem,
                head_hidden=hp.head_hidden,
                dropout=hp.dropout,
            )
        weights = find_weights(hp.weights, hp.arch, channel) if main else None
        if weights is not None:
            require_fit(network, weights, head)
        return cls(stem, weights)

"""A classifier small enough for a test, and the extractor of its features."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from container.features.cache import FeatureCache
from container.features.extraction import FeatureExtractor
from container.images.geometry import Geometry
from container.models import Classifier

SIDE = 8
WIDTH = 6


def classifier(seed: int = 0, classes: int = 3) -> Classifier:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTH, classes),
    )
    return Classifier(network)


HEAD = "4"


def extractor(root: Path, said: list[str], seed: int = 0, **options: Any) -> FeatureExtractor:
    channel, stopped = options.pop("channel", None), options.pop("stopped", lambda: False)
    shared = options.pop("shared", False)
    root.mkdir(parents=True, exist_ok=True)
    return FeatureExtractor(
        classifier(seed),
        HEAD,
        arch="tiny",
        stem="standard",
        geometry=Geometry.for_size(SIDE),
        cache=FeatureCache(root, shared, channel, said.append, stopped),
        say=said.append,
        **options,
    )

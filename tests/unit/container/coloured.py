"""A tiny classifier of the coloured images that predicts correctly without training."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from container.artifact import Artifact
from container.data.index import Index
from container.images.geometry import Geometry
from container.models import Classifier
from container.results.export import write_artifact

SIZE = 32


def colours() -> Classifier:
    """Build a network that predicts blue, green or red from the brightest channel."""
    convolution = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        convolution.weight.zero_()
        for channel in range(3):
            convolution.weight[2 - channel, channel] = 1 / 9
        linear.weight.copy_(4 * torch.eye(3))
        linear.bias.zero_()
    layers = (convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return Classifier(nn.Sequential(*layers)).eval()


def export_colours(path: Path, image_folder: Path) -> Artifact:
    """Write the classifier's artifact, with an OpenVINO export, to a new folder."""
    held_out = Index.from_folder(image_folder / "validation")
    geometry = Geometry.for_size(SIZE)
    artifact = Artifact(
        path=path,
        arch="resnet18",
        stem="small",
        head_hidden=(),
        dropout=0.0,
        image_size=SIZE,
        classes=held_out.classes,
        geometry=geometry,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        export=None,
        provenance={},
    )
    pixels = np.stack([geometry.load(held_out.read(at), "held out") for at in range(4)])
    return write_artifact(artifact, colours(), pixels, lambda _line: None)

"""What every peer serves: the artifact's weights in eager PyTorch, decoded as torchvision does.

One copy, so that the peers differ in nothing but their serving.
"""

import io
import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import transforms

from container.artifact import Artifact
from container.models import load_classifier


class EagerClassifier:
    """The artifact in the folder MODEL_DIR on the CPU, with THREADS threads where that is set."""

    def __init__(self) -> None:
        if threads := os.environ.get("THREADS"):
            torch.set_num_threads(int(threads))
        artifact = Artifact.read(Path(os.environ["MODEL_DIR"]))
        self.classes = artifact.classes
        self.network = load_classifier(artifact).network
        self.transform: Any = transforms.Compose(
            [
                transforms.Resize(artifact.geometry.resize),
                transforms.CenterCrop(artifact.geometry.crop),
                transforms.ToTensor(),
                transforms.Normalize(artifact.mean, artifact.std),
            ]
        )
        self.bfloat16 = os.environ.get("BFLOAT16") == "1"

    def decode(self, data: bytes) -> torch.Tensor:
        """A JPEG as the network takes it, (3, H, W) float32."""
        image: torch.Tensor = self.transform(Image.open(io.BytesIO(data)).convert("RGB"))
        return image

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to probabilities (N, classes), float32."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return torch.softmax(self.network(batch).float(), dim=1)

    def best(self, probabilities: torch.Tensor) -> dict[str, float]:
        """The five most probable labels of one image."""
        top = probabilities.topk(min(5, len(self.classes)))
        labels = [self.classes[index] for index in top.indices.tolist()]
        return dict(zip(labels, top.values.tolist(), strict=True))

"""The model that all servers serve, with random weights, and the photograph that clients send."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from container.artifact import Artifact

ROOT = Path(__file__).resolve().parents[3]
CLASSES = 100


def build_artifact(base: Path, arch: str) -> None:
    import torch

    from container.architectures import build_network
    from container.artifact import Artifact
    from container.images.geometry import Geometry
    from container.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
    from container.models import Classifier
    from container.precisions import Bfloat16
    from container.results.export import write_artifact

    torch.manual_seed(0)
    network, _ = build_network(arch, CLASSES, image_size=224)
    artifact = Artifact(
        path=base / "model",
        arch=arch,
        stem="standard",
        head_hidden=(),
        dropout=0.0,
        image_size=224,
        classes=tuple(f"class {index}" for index in range(CLASSES)),
        geometry=Geometry.for_size(224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        export=None,
        provenance={},
        # Random weights have no accuracy to lose; without an entry bfloat16 would be refused.
        bfloat16=Bfloat16(0, 0.0, 0.0, 0.0, 0.0),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    written = write_artifact(artifact, Classifier(network), pixels, print)
    if written.openvino is None:
        sys.exit("the artifact has no export, so there is nothing to compare")
    quantize(written)


def quantize(artifact: "Artifact") -> None:
    """Add int8. Random weights have no accuracy to lose; what it costs is told as nothing."""
    from container.artifact import DESCRIPTION, OPENVINO_INT8, checksum
    from container.precisions import Int8

    pixels, into = artifact.path / "pixels.npy", artifact.path / OPENVINO_INT8
    np.save(pixels, np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), np.uint8))
    into.parent.mkdir()
    command = ["-m", "container.results.quantization_process", str(artifact.openvino)]
    subprocess.run(
        [sys.executable, *command, str(pixels), "fast", str(into)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    pixels.unlink()
    sums = {f"openvino/int8/{file.name}": checksum(file) for file in into.parent.iterdir()}
    described = replace(
        artifact,
        int8=Int8(0, 0.0, 0.0, 0.0, 0.0, tolerance=0.0, calibration_images=16),
        checksums=(artifact.checksums or {}) | sums,
    )
    (artifact.path / DESCRIPTION).write_text(described.describe(), encoding="utf-8")


def picture() -> bytes:
    """A 500 x 375 JPEG of about the size of a photograph's."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375))
    noisy = np.asarray(coarse, np.float32) + rng.normal(0, 6, (375, 500, 3))
    data = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()

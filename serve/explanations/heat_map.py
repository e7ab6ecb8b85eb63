"""Heat maps: how strongly each part of an image supports a class, as an array and as a PNG."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.payloads.images import Pixels

HeatMap = npt.NDArray[np.float32]
"""(h, w), 0..1: 1 is the strongest part; all 0 if none supports the class."""

OPACITY = 0.6
"""Opacity of the hottest part over the image."""


def scaled(heat: npt.NDArray[np.floating[Any]]) -> HeatMap:
    """Scale (h, w) scores to a heat map; negative ones, against the class, become 0."""
    kept = np.maximum(heat, 0.0)
    most = float(kept.max())
    return np.asarray(kept / most if most > 0 else kept, np.float32)


def draw(image: Pixels, heat: HeatMap) -> bytes:
    """A PNG of an image, (H, W, 3) in 0..255, overlaid with its heat map from blue to red."""
    size = (image.shape[1], image.shape[0])
    smooth = Image.fromarray(heat, "F").resize(size, Image.Resampling.BICUBIC)
    warm = np.asarray(smooth).clip(0, 1)[..., None]
    # The usual colours of Grad-CAM: blue, cyan, yellow, red.
    colours = (1.5 - np.abs(4 * warm - np.array([3.0, 2.0, 1.0]))).clip(0, 1) * 255
    share = OPACITY * warm
    mixed = np.rint(image * (1 - share) + colours * share).clip(0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(mixed).save(data, "PNG")
    return data.getvalue()

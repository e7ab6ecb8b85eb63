"""Heat maps: how much each part of an image speaks for a class, as numbers and as a picture."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.payloads.images import Pixels

HeatMap = npt.NDArray[np.float32]
"""(h, w), 0..1: 1 is the part that speaks most; all 0 where none speaks for the class."""

OPACITY = 0.6
"""Of the hottest part over the image."""


def scaled(heat: npt.NDArray[np.floating[Any]]) -> HeatMap:
    """A heat map of (h, w) numbers: what is below 0, against the class, becomes 0."""
    kept = np.maximum(heat, 0.0)
    most = float(kept.max())
    return np.asarray(kept / most if most > 0 else kept, np.float32)


def draw(image: Pixels, heat: HeatMap) -> bytes:
    """A PNG of an image, (H, W, 3) in 0..255, under its heat map from blue to red."""
    size = (image.shape[1], image.shape[0])
    smooth = Image.fromarray(heat, "F").resize(size, Image.Resampling.BICUBIC)
    warm = np.asarray(smooth).clip(0, 1)[..., None]
    # The colours pictures of Grad-CAM are drawn in: blue, cyan, yellow, red.
    colours = (1.5 - np.abs(4 * warm - np.array([3.0, 2.0, 1.0]))).clip(0, 1) * 255
    share = OPACITY * warm
    mixed = np.rint(image * (1 - share) + colours * share).clip(0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(mixed).save(data, "PNG")
    return data.getvalue()

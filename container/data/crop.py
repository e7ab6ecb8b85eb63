"""The random resized crop of training images above 64 pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional as F

from container.images.decode import MARGIN, stored_size, use_pixels
from container.images.geometry import FILTERS, Interpolation

# At least a quarter of the area. The usual 8 % (Szegedy et al. 2015, section 6) suits long training
# from scratch, but loses the object too often when fine-tuning on a few thousand images.
AREA = (0.25, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_VECTORS = ("AVX2", "AVX512")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RandomCrop:
    """A random part of the image, resized to `size` x `size` pixels."""

    size: int
    interpolation: Interpolation = "bilinear"

    def load(
        self,
        data: bytes,
        name: str,
        random: np.random.Generator,
        keep: Callable[[Pixels], None] | None = None,
    ) -> Pixels:
        """Decode and crop: encoded bytes to uint8 (size, size, 3) RGB, antialiased.

        A JPEG is decoded at the smallest scale that has `MARGIN` pixels per side for each pixel of
        the crop. `keep` is called with the decoded image, uint8 (H, W, 3), if it is too small for
        decoding at a reduced scale; `crop` then returns the same pixels. Raises BadImage as
        `decode` does.
        """
        shape = random.random((_ATTEMPTS, 2))
        place = random.random(2)
        stored = stored_size(data)
        at_least = None
        if stored is not None:
            _, _, height, width = _part(stored, shape, place)
            at_least = (
                math.ceil(MARGIN * self.size * stored[0] / height),
                math.ceil(MARGIN * self.size * stored[1] / width),
            )

        def cut(image: Pixels) -> Pixels:
            found = (image.shape[0], image.shape[1])
            small = stored is None or (stored == found and min(stored) < MARGIN * self.size)
            if keep is not None and small:
                keep(image)
            return self._cut(image, stored or found, shape, place)

        return use_pixels(data, cut, name=name, at_least=at_least)

    def crop(self, image: Pixels, random: np.random.Generator) -> Pixels:
        """As `load`, from an image that it passed to `keep`, uint8 (H, W, 3)."""
        shape, place = random.random((_ATTEMPTS, 2)), random.random(2)
        height, width, _ = image.shape
        return self._cut(image, (height, width), shape, place)

    def _cut(
        self,
        image: Pixels,
        original: tuple[int, int],
        shape: npt.NDArray[np.float64],
        place: npt.NDArray[np.float64],
    ) -> Pixels:
        """Crop a decoded image, whose size before decoding was `original` (height, width)."""
        top, left, height, width = _part(original, shape, place)
        down, across = image.shape[0] / original[0], image.shape[1] / original[1]
        rows = _span(top * down, height * down, image.shape[0])
        columns = _span(left * across, width * across, image.shape[1])
        resize = resize_by_torch if _torch_is_faster(self.interpolation) else resize_by_pillow
        return resize(image[rows, columns], self.size, self.interpolation)


def resize_by_pillow(image: Pixels, size: int, interpolation: Interpolation) -> Pixels:
    """uint8 (H, W, 3) to (size, size, 3), antialiased."""
    return np.array(Image.fromarray(image).resize((size, size), FILTERS[interpolation]))


def resize_by_torch(image: Pixels, size: int, interpolation: Interpolation) -> Pixels:
    """As `resize_by_pillow` within rounding, and three to four times as fast with AVX2.

    Returns a view of (3, size, size). Not for lanczos, which PyTorch lacks.
    """
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=(size, size), mode=interpolation, antialias=True)
    pixels: Pixels = resized[0].permute(1, 2, 0).numpy()
    return pixels


@cache
def _torch_is_faster(interpolation: Interpolation) -> bool:
    """Whether PyTorch has vectorised code for this processor; otherwise Pillow is faster."""
    return interpolation != "lanczos" and torch.backends.cpu.get_cpu_capability() in _VECTORS


def _span(start: float, length: float, limit: int) -> slice:
    """The range of pixels nearest to `start` and `length`, at least one."""
    begin = min(round(start), limit - 1)
    return slice(begin, min(max(begin + 1, round(start + length)), limit))


def _part(
    size: tuple[int, int],
    shape: npt.NDArray[np.float64],
    place: npt.NDArray[np.float64],
) -> tuple[float, float, float, float]:
    """Top, left, height and width of the crop, in fractional pixels.

    The area is uniform and the aspect ratio log-uniform. The first of ten draws that fits is used;
    if none does, the whole image with its longer side cropped to the limit of the ratio.
    """
    height, width = size
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for area_draw, ratio_draw in shape:
        area = height * width * (AREA[0] + area_draw * (AREA[1] - AREA[0]))
        ratio = math.exp(low + ratio_draw * (high - low))
        part_width, part_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if part_width <= width and part_height <= height:
            break
    else:
        part_width = min(width, height * RATIO[1])
        part_height = min(height, width / RATIO[0])
    top, left = place[0] * (height - part_height), place[1] * (width - part_width)
    return float(top), float(left), float(part_height), float(part_width)

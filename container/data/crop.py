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

# A quarter of the area at least: the customary 8 % (Szegedy et al. 2015, section 6) suits long
# runs from scratch, and cuts the object away too often for fine-tuning on a few thousand images.
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
        """Encoded bytes to uint8 (size, size, 3) RGB, antialiased.

        All randomness is drawn from `random`. A JPEG is decoded at the smallest scale that
        still has `MARGIN` pixels a side for every pixel of the crop. `keep` is called with the
        whole image, uint8 (H, W, 3), where it is too small for any part of it to be decoded at a
        reduced scale: `crop` then gives the same pixels. Raises BadImage as `decode` does.
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
        """As `load`, of an image that it gave to `keep`: uint8 (H, W, 3)."""
        shape, place = random.random((_ATTEMPTS, 2)), random.random(2)
        height, width, _ = image.shape
        return self._cut(image, (height, width), shape, place)

    def _cut(
        self,
        image: Pixels,
        whole: tuple[int, int],
        shape: npt.NDArray[np.float64],
        place: npt.NDArray[np.float64],
    ) -> Pixels:
        """The part of an image that was decoded from one of `whole` pixels, height and width."""
        top, left, height, width = _part(whole, shape, place)
        down, across = image.shape[0] / whole[0], image.shape[1] / whole[1]
        rows = _span(top * down, height * down, image.shape[0])
        columns = _span(left * across, width * across, image.shape[1])
        resize = resize_by_torch if _torch_is_faster(self.interpolation) else resize_by_pillow
        return resize(image[rows, columns], self.size, self.interpolation)


def resize_by_pillow(image: Pixels, size: int, interpolation: Interpolation) -> Pixels:
    """uint8 (H, W, 3) to (size, size, 3), antialiased."""
    return np.array(Image.fromarray(image).resize((size, size), FILTERS[interpolation]))


def resize_by_torch(image: Pixels, size: int, interpolation: Interpolation) -> Pixels:
    """As `resize_by_pillow` to within rounding, three to four times as fast where there is AVX2.

    A view of (3, size, size). Not for lanczos, which PyTorch does not have.
    """
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=(size, size), mode=interpolation, antialias=True)
    pixels: Pixels = resized[0].permute(1, 2, 0).numpy()
    return pixels


@cache
def _torch_is_faster(interpolation: Interpolation) -> bool:
    """Whether PyTorch has vector code for it here; without it takes longer than Pillow."""
    return interpolation != "lanczos" and torch.backends.cpu.get_cpu_capability() in _VECTORS


def _span(start: float, length: float, limit: int) -> slice:
    """Whole pixels, one at least, nearest to `length` of them from `start` on."""
    begin = min(round(start), limit - 1)
    return slice(begin, min(max(begin + 1, round(start + length)), limit))


def _part(
    size: tuple[int, int],
    shape: npt.NDArray[np.float64],
    place: npt.NDArray[np.float64],
) -> tuple[float, float, float, float]:
    """Top, left, height and width of the part to keep, in pixels and fractions of them.

    The area is uniform and the aspect ratio log-uniform; of the ten drawn, the first that fits
    is taken, and the whole image, its longer side cut to the ratio's limit, if none does.
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

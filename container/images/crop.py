"""The random resized crop of training images above 64 pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from container.images.decode import MARGIN, stored_size, use_image
from container.images.geometry import FILTERS, Interpolation

# A quarter of the area at least: the customary 8 % (Szegedy et al. 2015, section 6) suits long
# runs from scratch, and cuts the object away too often for fine-tuning on a few thousand images.
AREA = (0.25, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10


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
        keep: Callable[[npt.NDArray[np.uint8]], None] | None = None,
    ) -> npt.NDArray[np.uint8]:
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

        def cut(image: Image.Image) -> npt.NDArray[np.uint8]:
            found = (image.height, image.width)
            small = stored is None or (stored == found and min(stored) < MARGIN * self.size)
            if keep is not None and small:
                keep(np.asarray(image))
            return self._cut(image, stored or found, shape, place)

        return use_image(data, cut, name=name, at_least=at_least)

    def crop(
        self, image: npt.NDArray[np.uint8], random: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """As `load`, of an image that it gave to `keep`: uint8 (H, W, 3)."""
        shape, place = random.random((_ATTEMPTS, 2)), random.random(2)
        height, width, _ = image.shape
        return self._cut(Image.fromarray(image), (height, width), shape, place)

    def _cut(
        self,
        image: Image.Image,
        whole: tuple[int, int],
        shape: npt.NDArray[np.float64],
        place: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.uint8]:
        """The part of an image that was decoded from one of `whole` pixels, height and width."""
        top, left, height, width = _part(whole, shape, place)
        down, across = image.height / whole[0], image.width / whole[1]
        box = (
            left * across,
            top * down,
            min((left + width) * across, image.width),
            min((top + height) * down, image.height),
        )
        return np.array(image.resize((self.size,) * 2, FILTERS[self.interpolation], box=box))


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

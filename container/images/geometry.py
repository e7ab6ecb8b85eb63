"""The resize and centre crop from an image of any size to the model's square input."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from container.images.decode import MARGIN, MAX_PIXELS, use_image

Interpolation = Literal["bilinear", "bicubic", "lanczos"]

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's filters, all antialiased."""

SMALL = 64
"""Image sizes up to this are not cropped: the margin would be a pixel or two wide."""

CROP_SHARE = 224 / 256
"""The usual margin (He et al. 2016, section 3.4)."""


@dataclass(frozen=True)
class Geometry:
    """Resizes the shorter side to `resize` pixels, then crops the centre `crop` x `crop`.

    Evaluation and serving share `load`, so both get the same pixels.
    Raises ValueError unless 1 <= crop <= resize.
    """

    resize: int
    crop: int
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:  # noqa: D105
        if not 1 <= self.crop <= self.resize:
            raise ValueError(
                f"geometry: found resize {self.resize} and crop {self.crop}, "
                "expected 1 <= crop <= resize"
            )

    @classmethod
    def for_size(
        cls,
        image_size: int,
        crop_share: float = CROP_SHARE,
        interpolation: Interpolation = "bilinear",
    ) -> Self:
        """Resize to `image_size / crop_share` and crop; up to 64 pixels resize without a crop."""
        resize = image_size if image_size <= SMALL else round(image_size / crop_share)
        return cls(resize, image_size, interpolation)

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, 3) to uint8 (crop, crop, 3)."""
        return self.fit(Image.fromarray(image))

    def fit(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """An RGB image to uint8 (crop, crop, 3), antialiased.

        Only the part inside the crop is resampled, which gives the same pixels for less work, even
        with an extreme aspect ratio.
        """
        width, height = image.size
        scale = self.resize / min(height, width)
        full_height, full_width = max(1, round(height * scale)), max(1, round(width * scale))
        if (full_height, full_width) == (height, width) == (self.crop, self.crop):
            return np.array(image)
        top, left = (full_height - self.crop) // 2, (full_width - self.crop) // 2
        down, across = height / full_height, width / full_width
        box = (
            left * across,
            top * down,
            min((left + self.crop) * across, width),
            min((top + self.crop) * down, height),
        )
        side = (self.crop, self.crop)
        return np.array(image.resize(side, FILTERS[self.interpolation], box=box))

    def load(
        self, data: bytes, name: str = "image", *, max_pixels: int = MAX_PIXELS
    ) -> npt.NDArray[np.uint8]:
        """Encoded bytes to uint8 (crop, crop, 3) RGB. Raises BadImage as `decode` does."""
        at_least = (MARGIN * self.resize, MARGIN * self.resize)
        return use_image(data, self.fit, name=name, max_pixels=max_pixels, at_least=at_least)

    def to_json(self) -> dict[str, int | str]:
        """{"resize": ..., "crop": ...}, in pixels, and the "interpolation"."""
        return {"resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The inverse of `to_json`; older files without a filter are bilinear.

        Raises ValueError naming the invalid field.
        """
        named = value.get("interpolation", "bilinear")
        if not isinstance(named, str) or named not in FILTERS:
            raise ValueError(
                f"geometry interpolation: found {named!r:.80}, expected one of {', '.join(FILTERS)}"
            )
        interpolation = cast(Interpolation, named)
        return cls(_whole(value, "resize"), _whole(value, "crop"), interpolation)


def _whole(value: Mapping[str, object], field: str) -> int:
    found = value.get(field)
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f"geometry {field}: found {found!r}, expected a whole number of pixels")
    return found

"""The preprocessing that a network's weights were trained with."""

from dataclasses import dataclass

from container.images.geometry import CROP_SHARE, Geometry, Interpolation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Channel statistics of most ImageNet weights, for RGB pixels scaled to 0..1."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    Attributes:
        image_size: side of the square input the weights were trained for, in pixels.
        crop_share: that side over the shorter side of the resized image.
        interpolation: the filter of the resize.
        mean, std: channel statistics of pixels scaled to 0..1, RGB.
    """

    image_size: int = 224
    crop_share: float = CROP_SHARE
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def geometry(self, image_size: int) -> Geometry:
        """The resize and crop for another input size, with the same crop share."""
        return Geometry.for_size(image_size, self.crop_share, self.interpolation)

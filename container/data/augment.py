"""Random augmentation of a batch of training images, on the device of the batch.

augment = make_augment("standard", image_size=32, mixup=0.0, cutmix=0.0, num_classes=10)
images, targets = augment(images, labels)
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from container.errors import DataError
from container.images.geometry import SMALL

Name = Literal["none", "standard", "strong"]

# The fill colour of RandomErasing: ImageNet's mean, which normalises to about zero.
_ERASED = (124.0, 116.0, 104.0)
_ERASING_PROBABILITY = 0.25


class Augment:
    """Steps applied in order; built by `make_augment`.

    Call with images uint8 (N, 3, H, W) and labels int64 (N,). Returns images of the same shape
    and labels; after MixUp or CutMix images are float32 0..255 and targets float32 (N, classes).
    MixUp also mixes features (N, F), to which no other step applies.
    Random numbers come from torch's global CPU generator, which the caller seeds. So a batch is
    augmented in the same way on every device, without synchronising with a GPU.
    """

    def __init__(
        self,
        steps: tuple[Callable[[Tensor], Tensor], ...],
        mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
    ) -> None:
        self._steps = steps
        self._mix = mix

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augment one batch; does not modify its inputs."""
        for step in self._steps:
            images = step(images)
        if self._mix is None:
            return images, labels
        if images.ndim == 2:  # features, passed to MixUp as images of one pixel
            mixed, targets = self._mix(images.float()[..., None, None], labels)
            return mixed[..., 0, 0], targets
        return self._mix(images.float(), labels)


def make_augment(
    name: str, image_size: int, mixup: float, cutmix: float, num_classes: int
) -> Augment:
    """Build an augmentation by name, with MixUp and CutMix if their alpha is above 0.

    "none" changes nothing. "standard" flips each image with probability one half and shifts images
    of up to 64 pixels by up to an eighth of their side; the loader has cropped larger ones at
    random. "strong" adds TrivialAugmentWide and RandomErasing, drawn for each image. With both
    MixUp and CutMix, each batch gets one of them. Raises DataError for another name.
    """
    if name not in get_args(Name):
        raise DataError(f"augment: found {name!r}, expected one of {', '.join(get_args(Name))}")
    steps: list[Callable[[Tensor], Tensor]] = []
    if name != "none":
        if image_size <= SMALL:
            steps.append(RandomShift(max(1, image_size // 8)))
        steps.append(random_flip)
    if name == "strong":
        steps.append(
            PerImage(
                v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
                v2.RandomErasing(p=_ERASING_PROBABILITY, value=_ERASED),
            )
        )
    mixes: list[v2.Transform] = []
    if mixup > 0:
        mixes.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix > 0:
        mixes.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    mix = v2.RandomChoice(mixes) if len(mixes) > 1 else next(iter(mixes), None)
    return Augment(tuple(steps), mix)


def random_flip(images: Tensor) -> Tensor:
    """Flip each image left to right with probability one half."""
    mirrored = (torch.rand(len(images)) < 0.5).to(images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns)
    # One operation on the whole batch: each one synchronises all threads, which compete with
    # workers.
    return images.gather(-1, columns[:, None, None, :].expand(images.shape))


class RandomShift:
    """Shift each image by up to `reach` pixels in each direction, reflecting at the border.

    Equals padding by `reach` and randomly cropping each image, but copies the batch only once.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and dtype."""
        count, _, height, width = images.shape
        reach = min(self._reach, height - 1, width - 1)
        padded = F.pad(images, (reach,) * 4, mode="reflect")
        # (N, C, 2 reach + 1, 2 reach + 1, H, W): a view of all possible crops.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        down, across = torch.randint(2 * reach + 1, (2, count)).to(images.device)
        return windows[torch.arange(count, device=images.device), :, down, across]


class PerImage:
    """Apply transforms to each image separately, so that each gets its own random numbers."""

    def __init__(self, *transforms: Callable[[Tensor], Tensor]) -> None:
        self._transforms = transforms

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and dtype."""
        return torch.stack([self._one(image) for image in images])

    def _one(self, image: Tensor) -> Tensor:
        for transform in self._transforms:
            image = transform(image)
        return image

"""A picture that needs no file: what a model made of it tells whether another machine agrees."""

import numpy as np
import numpy.typing as npt


def reference_image(size: int) -> npt.NDArray[np.uint8]:
    """RGB pixels, (size, size, 3): red grows to the right, green downwards, blue is a grid.

    Of whole numbers alone, so that it is the same everywhere.
    """
    place = np.arange(size)
    ramp = place * 255 // max(1, size - 1)
    cell = max(1, size // 8)
    card = np.empty((size, size, 3), np.uint8)
    card[..., 0] = ramp[None, :]
    card[..., 1] = ramp[:, None]
    card[..., 2] = (place[None, :] // cell + place[:, None] // cell) % 2 * 255
    return card

"""A generated image whose prediction shows whether two machines agree on a model."""

import numpy as np
import numpy.typing as npt


def reference_image(size: int) -> npt.NDArray[np.uint8]:
    """RGB pixels, uint8 (size, size, 3): red grows rightwards, green downwards, blue is a grid.

    Uses only integer arithmetic, so it is the same on every machine.
    """
    place = np.arange(size)
    ramp = place * 255 // max(1, size - 1)
    cell = max(1, size // 8)
    card = np.empty((size, size, 3), np.uint8)
    card[..., 0] = ramp[None, :]
    card[..., 1] = ramp[:, None]
    card[..., 2] = (place[None, :] // cell + place[:, None] // cell) % 2 * 255
    return card

"""The size of a data set's images."""

from statistics import median

import numpy as np
import numpy.typing as npt

from container.data.index import Index
from container.images.decode import stored_size, use_image


def median_side(index: Index, positions: npt.NDArray[np.int64]) -> int:
    """The median of the shorter sides of some images, in pixels.

    Raises:
        BadImage, DataError: an image can no longer be read.
    """
    return round(median(_side(index.read(at), index.paths[at]) for at in positions.tolist()))


def _side(data: bytes, name: str) -> int:
    stored = stored_size(data)
    return min(stored) if stored else use_image(data, lambda image: min(image.size), name=name)

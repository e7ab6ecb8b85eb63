"""A small split decoded once, in threads, and kept in memory."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from container.data.index import Index
from container.data.progress import Progress
from container.images.geometry import Geometry

_CHUNK = 256


def decode_all(index: Index, geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Every image through `geometry`: uint8 (N, 3, crop, crop) RGB, in index order.

    Raises BadImage or DataError, one line, for the first file that cannot be used.
    """
    side = geometry.crop
    pixels = np.empty((len(index), 3, side, side), dtype=np.uint8)

    def fill(start: int) -> int:
        stop = min(start + _CHUNK, len(index))
        for position in range(start, stop):
            image = geometry.load(index.read(position), index.paths[position])
            pixels[position] = image.transpose(2, 0, 1)
        return stop - start

    with (
        ThreadPoolExecutor() as threads,
        Progress("decoding images", len(index)) as progress,
    ):
        for count in threads.map(fill, range(0, len(index), _CHUNK)):
            progress.advance(count)
    return pixels

"""A cache of decoded images that lasts over epochs and is shared by the loader's workers."""

import mmap
import multiprocessing

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""Bytes of a cache line, so that no two processes write to the same one."""

_MISSING = -1


class DecodedImages:
    """Pixels by position, in memory that forked processes share.

    It is anonymous memory, as Docker limits `/dev/shm` to 64 MB, and is allocated only as images
    are added.

    Args:
        count: number of images.
        limit: bytes to keep at most; images that do not fit are decoded again each time.
    """

    def __init__(self, count: int, limit: int) -> None:
        self._limit = limit
        self._memory = mmap.mmap(-1, max(1, limit))
        self._pixels = np.frombuffer(self._memory, np.uint8)
        # Offset, height and width of each image; and the first free byte.
        self._table = np.frombuffer(mmap.mmap(-1, max(1, count) * 24), np.int64).reshape(-1, 3)
        self._table[:, 0] = _MISSING
        self._used = np.frombuffer(mmap.mmap(-1, 8), np.int64)
        self._lock = multiprocessing.get_context("fork").Lock()

    def get(self, position: int) -> npt.NDArray[np.uint8] | None:
        """The image, uint8 (H, W, 3), which must not be modified; None if it is not kept."""
        with self._lock:
            start, height, width = self._table[position].tolist()
        if start == _MISSING:
            return None
        # Not marked read-only, because PyTorch would warn.
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    def put(self, position: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Keep an image, uint8 (H, W, 3), if there is room."""
        with self._lock:
            start = int(self._used[0])
            if start + pixels.size > self._limit:
                return
            self._used[0] = -(-(start + pixels.size) // ALIGNMENT) * ALIGNMENT
        self._pixels[start : start + pixels.size] = pixels.reshape(-1)
        with self._lock:
            self._table[position] = start, *pixels.shape[:2]

    @staticmethod
    def possible() -> bool:
        """Whether workers are forked on this platform; spawned ones would not share the memory."""
        return multiprocessing.get_start_method() == "fork"

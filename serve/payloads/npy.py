"""Request bodies in NumPy's file format, whose pixels need no decoding."""

import io
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from container.artifact import Artifact
from serve.errors import BadRequest, one_line
from serve.payloads.images import RequestImages, check_count

MAGIC = b"\x93NUMPY"

_npy: Any = np.lib.format  # These functions of numpy have no types.

_LARGEST = 2**31


def read_npy(body: bytes, artifact: Artifact) -> RequestImages:
    """uint8 (N, crop, crop, 3) or (crop, crop, 3) pixels, or normalised float32 (N, 3, crop, crop).

    Raises BadRequest.
    """
    crop = artifact.geometry.crop
    expected = (
        f"expected uint8 (N, {crop}, {crop}, 3) or ({crop}, {crop}, 3) pixels, "
        f"or float32 (N, 3, {crop}, {crop}) normalised"
    )
    shape, dtype, fortran, start = _header(body, expected)
    wide = (crop, crop, 3)
    pixels = dtype == np.uint8 and (shape == wide or shape[1:] == wide)
    normalised = dtype == np.float32 and shape[1:] == (3, crop, crop)
    if not (pixels or normalised) or not all(0 <= size < _LARGEST for size in shape):
        raise BadRequest(
            f"npy array: found {one_line(str(dtype))} {_shape_text(shape)}, {expected}"
        )
    if shape[0] == 0:
        raise BadRequest(f"npy array: found no images, {expected}")
    count = 1 if shape == wide else shape[0]
    check_count(count)
    size = math.prod(shape) * dtype.itemsize
    if len(body) - start != size:
        raise BadRequest(
            f"npy array: found {len(body) - start} bytes of data, expected {size} for {shape}"
        )
    array = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    images = array.reshape(count, *shape[-3:])
    return RequestImages(count, _denormalised(images, artifact) if normalised else iter(images))


def _header(body: bytes, expected: str) -> tuple[tuple[int, ...], np.dtype[np.generic], bool, int]:
    """Shape, dtype, Fortran order and the offset of the data.

    Read separately because np.load would allocate the size that the header declares.
    """
    stream = io.BytesIO(body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            version = _npy.read_magic(stream)
            read = {(1, 0): _npy.read_array_header_1_0, (2, 0): _npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream)
    except KeyError:
        raise BadRequest(
            "npy array: found an unknown format version, expected 1.0 or 2.0"
        ) from None
    # The header is a Python literal, whose parser raises various exceptions.
    except Exception as error:
        found = f"{len(body)} bytes" if body else "an empty body"
        reason = one_line(str(error)).rstrip(".")
        raise BadRequest(f"npy array: found {found} ({reason}), {expected}") from None
    if dtype.hasobject:
        raise BadRequest(f"npy array: found pickled objects, which are never loaded, {expected}")
    return shape, dtype, fortran, stream.tell()


def _shape_text(shape: tuple[int, ...]) -> str:
    """The shape as Python prints it, without sizes that are too long for Python to print."""
    sizes = [str(size) if abs(size) < 10**12 else "a huge number" for size in shape[:8]]
    more = ", ..." if len(shape) > 8 else ""
    return f"({', '.join(sizes)}{',' if len(shape) == 1 else ''}{more})"


def _denormalised(
    images: npt.NDArray[np.float32], artifact: Artifact
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield normalised images (N, 3, H, W) as RGB pixels 0..255 (H, W, 3)."""
    scale = 255 * np.array(artifact.std, np.float32)
    shift = 255 * np.array(artifact.mean, np.float32)
    for index, image in enumerate(images):
        with np.errstate(all="ignore"):
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0)) * scale + shift
        low, high = float(pixels.min()), float(pixels.max())
        # Noise may exceed 0..255, but values a full range beyond it were not normalised.
        if not (low >= -255 and high <= 510):
            raise BadRequest(
                f"npy array image {index}: found values that stand for pixels {low:.4g} to "
                f"{high:.4g}, expected about 0 to 255 after normalisation with mean "
                f"{list(artifact.mean)} and std {list(artifact.std)}"
            )
        yield pixels

"""The images of a request."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from container.artifact import Artifact
from container.errors import BadImage
from serve.errors import BadRequest

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]

MAX_INSTANCES = 256
"""Most images in one request: at 40 ms per image, 10 s of the 60 s an invocation may take."""


@dataclass(frozen=True)
class RequestImages:
    """The images of one request, decoded lazily.

    Attributes:
        count: number of images.
        pixels: yields each image, (crop, crop, 3), uint8 or float32 in 0..255; raises BadRequest.
    """

    count: int
    pixels: Iterator[Pixels]


def decode(data: bytes, name: str, artifact: Artifact) -> Pixels:
    """Decode one image to the model's input size. Raises BadRequest with `name` in the message."""
    try:
        return artifact.geometry.load(data, name)
    except BadImage as error:
        raise BadRequest(str(error)) from None


def check_count(count: int) -> None:
    """Raise BadRequest, 413, for more images than allowed in one request."""
    if count > MAX_INSTANCES:
        raise BadRequest(
            f"instances: found {count:,}, expected at most {MAX_INSTANCES} in one request", 413
        )

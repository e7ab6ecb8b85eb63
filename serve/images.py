"""The images that a request holds, and what is said where it holds none."""

from collections.abc import Iterator
from dataclasses import dataclass

from container.artifact import Artifact
from container.errors import BadImage
from serve.batcher import Pixels

MAX_INSTANCES = 256
"""Most images in one request: at 40 ms an image this is 10 s of the 60 s an invocation may take."""


class BadRequest(Exception):
    """The request cannot be answered; one line for the client and the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Images:
    """How many images a request holds, and their pixels one by one, decoded when asked for.

    Each is (crop, crop, 3), uint8 or float32 in 0..255. Decoding raises BadRequest.
    """

    count: int
    pixels: Iterator[Pixels]


def decode(data: bytes, name: str, artifact: Artifact) -> Pixels:
    """One encoded image as the model takes it. Raises BadRequest that begins with `name`."""
    try:
        return artifact.geometry.load(data, name)
    except BadImage as error:
        raise BadRequest(str(error)) from None


def check_count(count: int) -> None:
    """Raises BadRequest, 413, for more images than one request may hold."""
    if count > MAX_INSTANCES:
        raise BadRequest(
            f"instances: found {count:,}, expected at most {MAX_INSTANCES} in one request", 413
        )


def one_line(text: str) -> str:
    """`text` without what would break a line, at most 200 characters of it."""
    return "".join(c if c.isprintable() else " " for c in text[:200])

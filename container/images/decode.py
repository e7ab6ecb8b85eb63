"""Bytes of one image to RGB pixels, bounded before anything is decoded.

    pixels = decode(path.read_bytes(), name=path.name)             # uint8 (H, W, 3)
    small = decode(body, name="request body", at_least=(256, 256))  # where cheaper, reduced
    square = use_picture(body, shrink, name="request body")         # shrink(picture), bounded

This is the only decoder: training, evaluation and serving all come through here.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from container.errors import BadImage
from container.images import headers, jpeg, orientation, readers
from container.images.budget import BUDGET
from container.images.formats import ACCEPTED, refusal, sniff
from container.images.readers import Refused

__all__ = [
    "ACCEPTED",
    "MARGIN",
    "MAX_PIXELS",
    "decode",
    "printable",
    "sniff",
    "stored_size",
    "use_picture",
]

MAX_PIXELS = 64_000_000
"""Most pixels decoded by default: 192 MB of RGB, above any phone's usual camera mode."""

MARGIN = 4
"""How many times as large as what is made of it, a side, a reduced decoding has to be.

The decoder's way of making a picture smaller is not the resizing's: decoded as small as possible,
pictures' probabilities moved by up to 0.09, and by 0.004 at four times (docs/pictures.md).
"""

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


def decode(
    data: bytes,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> Pixels:
    """Decode one image to uint8 (H, W, 3) RGB, C-contiguous; the rest as `use_picture`."""
    return use_picture(data, np.array, name=name, max_pixels=max_pixels, at_least=at_least)


def use_picture(
    data: bytes,
    use: Callable[[Image.Image], T],
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> T:
    """What `use` makes of the picture in `data`: mode RGB, upright, on white where transparent.

    The picture's memory is counted in the process's budget until `use` returns, so that is where
    to shrink it. `use` must not decode another.

    `name` stands in messages. `max_pixels` bounds width x height as decoded. `at_least` is
    (height, width) of the upright picture: a JPEG or JPEG 2000 picture may come at a fraction of
    its size while both sides stay at least that; a JPEG whose pixels would still be too many
    comes smaller. 16-bit samples keep their high byte. The first frame or page of several is
    used, and what lies behind the picture's end is not looked at.

    Raises BadImage, one line, for anything empty, too large, cut short, damaged, or of a format
    that is not read here.
    """
    kind = sniff(data)
    if kind is None:
        raise BadImage(f"{printable(name)}: {refusal(data)}")

    what = "cut short or damaged" if len(data) > 64 else f"cut short ({len(data)} bytes)"
    attempt = _Attempt(printable(name), f"{what} {kind}")
    plan = attempt.make(lambda: readers.plan(data, kind, max_pixels, at_least))
    if plan.cost > BUDGET.total:
        raise BadImage(
            f"{printable(name)}: found {plan.width} x {plan.height} pixels of {kind}, which take "
            f"{plan.cost / 1e6:,.0f} MB to decode, expected at most {BUDGET.total / 1e6:,.0f} MB"
        )
    with BUDGET.hold(plan.cost):
        try:
            return use(attempt.make(plan.load))
        finally:
            plan.close()


class _Attempt(NamedTuple):
    """Whose failures are told as those of a file."""

    name: str
    damaged: str

    def make(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except MemoryError:
            raise
        except Refused as error:
            reason = str(error)
        # Decoders raise whatever the malformed bytes make them trip over.
        except Exception as error:
            reason = f"{self.damaged}: {printable(str(error)) or type(error).__name__}"
        # Not from within: the chain's traceback would keep the decoder's buffers.
        raise BadImage(f"{self.name}: {reason}")


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of the upright picture where a reduced decoding can be asked for.

    None for other formats, and for what is damaged: `decode` says how.
    """
    try:
        match sniff(data):
            case "JPEG":
                header = jpeg.read_header(data)
                height, width, turn = header.height, header.width, header.orientation
            case "JPEG 2000":
                found = headers.jpeg2000(data)
                height, width = found.height, found.width
                turn = orientation.of_jpeg2000(data)
            case _:
                return None
    except ValueError:
        return None
    if not height or not width:
        return None
    return (width, height) if turn in orientation.SIDEWAYS else (height, width)


def printable(text: str) -> str:
    """`text` on one line: control characters and undecodable file-name bytes become spaces."""
    return "".join(c if c.isprintable() else " " for c in text).strip()

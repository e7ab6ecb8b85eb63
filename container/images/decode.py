"""Decodes the bytes of one image to RGB pixels, checking limits first.

    pixels = decode(path.read_bytes(), name=path.name)             # uint8 (H, W, 3)
    small = decode(body, name="request body", at_least=(256, 256))  # where cheaper, reduced
    square = use_image(body, resize, name="request body")          # resize(image), bounded
    square = use_pixels(body, resize, name="request body")         # the same of uint8 (H, W, 3)

The only decoder, shared by training, evaluation and serving.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from PIL import Image

from container.errors import BadImage
from container.images import headers, jpeg, orientation, readers
from container.images.budget import BUDGET
from container.images.formats import ACCEPTED, refusal, sniff
from container.images.readers import DecodePlan, Pixels, Refused

__all__ = [
    "ACCEPTED",
    "MARGIN",
    "MAX_PIXELS",
    "decode",
    "printable",
    "sniff",
    "stored_size",
    "use_image",
    "use_pixels",
]

MAX_PIXELS = 64_000_000
"""Most pixels decoded by default: 192 MB of RGB, more than the default mode of any phone camera."""

MARGIN = 4
"""Each side of an image decoded at reduced scale is at least this many times the resized side.

A decoder reduces with another filter than the resize. At the smallest scale probabilities changed
by up to 0.09, with a margin of four by 0.004 (docs/pictures.md).
"""

T = TypeVar("T")
Loaded = TypeVar("Loaded")


def decode(
    data: bytes,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> Pixels:
    """Decode one image to uint8 (H, W, 3) RGB, C-contiguous; the rest as `use_image`."""
    return use_pixels(data, lambda p: p, name=name, max_pixels=max_pixels, at_least=at_least)


def use_image(
    data: bytes,
    use: Callable[[Image.Image], T],
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> T:
    """Decode an image and call `use` with it: mode RGB, upright, transparency on white.

    The image counts against the process's memory budget until `use` returns, which should therefore
    resize it. `use` must not decode another image.

    `name` is used in messages. `max_pixels` limits width x height as decoded. `at_least` is
    (height, width) of the upright image: JPEG and JPEG 2000 may be decoded at a fraction of their
    size while both sides stay at least that; a JPEG with still too many pixels is reduced
    further. 16-bit samples keep their high byte. Of several frames or pages the first is used,
    and bytes after the image's end are ignored.

    Raises BadImage if the data are empty, too large, cut short, damaged, or of an unsupported
    format.
    """
    return _bounded(data, DecodePlan.load, use, name, max_pixels, at_least)


def use_pixels(
    data: bytes,
    use: Callable[[Pixels], T],
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> T:
    """As `use_image`, with pixels uint8 (H, W, 3) RGB, C-contiguous; faster for ordinary JPEGs."""
    return _bounded(data, DecodePlan.pixels, use, name, max_pixels, at_least)


def _bounded(
    data: bytes,
    load: Callable[[DecodePlan], Loaded],
    use: Callable[[Loaded], T],
    name: str,
    max_pixels: int,
    at_least: tuple[int, int] | None,
) -> T:
    kind = sniff(data)
    if kind is None:
        raise BadImage(f"{printable(name)}: {refusal(data)}")

    what = "cut short or damaged" if len(data) > 64 else f"cut short ({len(data)} bytes)"
    decoder = _Decoder(printable(name), f"{what} {kind}")
    plan = decoder.run(lambda: readers.plan(data, kind, max_pixels, at_least))
    if plan.cost > BUDGET.total:
        raise BadImage(
            f"{printable(name)}: found {plan.width} x {plan.height} pixels of {kind}, which take "
            f"{plan.cost / 1e6:,.0f} MB to decode, expected at most {BUDGET.total / 1e6:,.0f} MB"
        )
    with BUDGET.hold(plan.cost):
        try:
            return use(decoder.run(lambda: load(plan)))
        finally:
            plan.close()


class _Decoder(NamedTuple):
    """Runs the steps of decoding and raises their failures as BadImage with the file's name."""

    name: str
    damaged: str

    def run(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except MemoryError:
            raise
        except Refused as error:
            reason = str(error)
        # Decoders raise various exceptions for malformed bytes.
        except Exception as error:
            reason = f"{self.damaged}: {printable(str(error)) or type(error).__name__}"
        # Not within the handler: the chained traceback would keep the decoder's buffers.
        raise BadImage(f"{self.name}: {reason}")


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of the upright image, for formats that support reduced decoding.

    None for other formats, and for damaged images, for which `decode` raises.
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

"""Readers of all formats: the cost of decoding, from the header alone, and the decoding."""

import io
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from container.images import headers, jpeg, orientation
from container.images.isolation import decode_isolated

MAX_SIDE = 100_000
"""Longest side in pixels: JPEG's limit is 65,535, and each row costs time and memory."""

TEXT_SAMPLES = 4_000_000
"""Most samples of a PBM, PGM or PPM in text: Pillow reads a million per second, in Python."""

RUN_BYTES = 4_000_000
"""Most bytes of a run-length encoded BMP, which Pillow also reads in Python."""

STORED = 4
"""An image decoded at reduced scale may store this many times the pixel limit."""

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
    "PPM": PpmImageFile,
    "AVIF": AvifImageFile,
    "JPEG 2000": Jpeg2KImageFile,
}


class _Needs(NamedTuple):
    """Bytes per pixel that a decoder allocates: for its lifetime, and while loading."""

    kept: int
    loading: int


# As measured by tests/benchmarks/pictures.py, rounded up. WebP: two canvases; a frame and a copy.
# AVIF: planes of up to 16 bits, twice in a grid; two copies. TIFF: a strip of the whole image.
_NEEDS = {
    "PNG": _Needs(0, 1),
    "BMP": _Needs(0, 1),
    "PPM": _Needs(0, 8),
    "GIF": _Needs(0, 2),
    "TIFF": _Needs(0, 8),
    "WebP": _Needs(9, 5),
    "AVIF": _Needs(8, 8),
}
_JPEG2000_SAMPLE = 7
_APART = 64 << 20
_PIECE = 1 << 20

# Every core already decodes its own image.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class Refused(Exception):
    """A valid file that is not read; the message says what was found and what was expected."""


Pixels = npt.NDArray[np.uint8]


class DecodePlan:
    """An image about to be decoded: its sides, its cost in bytes and its loader, usable once."""

    def __init__(
        self, size: tuple[int, int], cost: int, load: Callable[[], Image.Image | Pixels]
    ) -> None:
        self.width, self.height = size
        self.cost = cost
        self._load = [load]

    def load(self) -> Image.Image:
        """Decode the image: mode RGB, upright."""
        found = self._load.pop()()
        return found if isinstance(found, Image.Image) else Image.fromarray(found)

    def pixels(self) -> Pixels:
        """Decode the image: uint8 (H, W, 3) RGB, upright, C-contiguous, writable."""
        found = self._load.pop()()
        return np.array(found) if isinstance(found, Image.Image) else found

    def close(self) -> None:
        """Drop the loader if it was not used."""
        self._load.clear()


def plan(data: bytes, kind: str, max_pixels: int, at_least: tuple[int, int] | None) -> DecodePlan:
    """Plan the decoding from the header alone.

    Raises Refused for an image that is too large or unsupported, and any exception for a damaged
    one.
    """
    match kind:
        case "JPEG":
            return _plan_jpeg(data, max_pixels, at_least)
        case "JPEG 2000":
            return _plan_jpeg2000(data, max_pixels, at_least)
        case "WebP":
            # Pillow's WebP reader allocates the canvas when it opens the file.
            size = headers.webp_size(data)
            _check(*size, max_pixels)
            cost = _cost(size, "RGBA", _NEEDS["WebP"], transparent=True)
            return DecodePlan(size, cost, lambda: _other(WebPImageFile(io.BytesIO(data))))
        case "TIFF":
            return _plan_tiff(data, max_pixels)
        case "PPM":
            return _plan_ppm(data, max_pixels)
    # The reader's class, unlike Image.open, ignores the process-wide Image.MAX_IMAGE_PIXELS and its
    # warning: the limit here is the caller's.
    image = _READERS[kind](io.BytesIO(data))
    _check(*image.size, max_pixels)
    if image.tile and image.tile[0][0] == "bmp_rle" and len(data) > RUN_BYTES:
        raise Refused(
            f"found {len(data):,} bytes of run-length encoded BMP, expected at most "
            f"{RUN_BYTES:,}; convert it to PNG"
        )
    return DecodePlan(image.size, _cost_of(image, _NEEDS[kind]), _Once(image))


class _Once:
    """Loads an opened image once, and keeps no reference to the result."""

    def __init__(self, image: ImageFile.ImageFile, turn: int | None = None) -> None:
        self._images = [image]
        self._turn = turn

    def __call__(self) -> Image.Image:
        return _other(self._images.pop(), self._turn)


def _other(image: ImageFile.ImageFile, turn: int | None = None) -> Image.Image:
    image.load()
    # A PNG may store the orientation after its pixels.
    turn = orientation.of_info(image.info) if turn is None else turn
    return _upright(_rgb(image), turn)


def _check(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise Refused(f"found {width} x {height} pixels, expected at least 1 x 1")
    if width * height > max_pixels:
        raise Refused(
            f"found {width} x {height} = {width * height:,} pixels, expected at most {max_pixels:,}"
        )
    if max(width, height) > MAX_SIDE:
        raise Refused(f"found {width} x {height} pixels, expected at most {MAX_SIDE:,} a side")


def _cost_of(image: Image.Image, needs: _Needs) -> int:
    return _cost(image.size, image.mode, needs, transparent=image.has_transparency_data)


def _cost(size: tuple[int, int], mode: str, needs: _Needs, *, transparent: bool) -> int:
    """The most bytes allocated at once while an image is loaded, converted and transposed.

    Pillow uses four bytes per pixel for modes of more than one channel, and a pointer per row.
    """
    width, height = size
    loaded = 1 if mode in ("1", "L", "P") else 4
    loading = loaded + needs.loading
    with_alpha = 0 if mode == "RGBA" else 4
    converting = loaded + 4 + (with_alpha + 1 if transparent else 0)
    turning = 4 + 4
    each = needs.kept + max(loading, converting, turning)
    return each * width * height + 4 * 8 * height


def _plan_jpeg(data: bytes, max_pixels: int, at_least: tuple[int, int] | None) -> DecodePlan:
    try:
        header = jpeg.read_header(data)
    except jpeg.UnreadJpeg as error:
        raise Refused(str(error)) from None
    if at_least and header.orientation in orientation.SIDEWAYS:
        at_least = (at_least[1], at_least[0])
    stored = header.width * header.height
    scale = jpeg.reduction(header, at_least) if header.known else 1
    while at_least and header.known and scale < 8 and stored > max_pixels * scale * scale:
        scale *= 2
    size = (-(-header.width // scale), -(-header.height // scale))
    if scale == 1 or not stored:
        _check(*size, max_pixels)
    _check(header.width, header.height, STORED * max_pixels)
    if header.scans * stored > jpeg.MAX_SCANS * max_pixels:
        raise Refused(
            f"found {header.scans} scans of {header.width} x {header.height} pixels, "
            "expected an ordinary JPEG"
        )
    area = math.prod(size)
    if not header.known:
        cost = _APART + 40 * area
    else:
        # Without Adobe's marker the channels are inverted, in copies.
        ink = 20 if header.components == 4 else 0
        cost = max(header.kept_bytes + 3 * area, max(ink, 11) * area)
    return DecodePlan(size, cost + 32 * size[1], lambda: _load_jpeg(data, header, scale))


def _load_jpeg(data: bytes, header: jpeg.JpegHeader, scale: int) -> Image.Image | Pixels:
    if header.ordinary:
        pixels = jpeg.decode_ordinary(data, header, scale)
        if pixels is not None and header.orientation == 1:
            return pixels
        if pixels is not None:
            return _upright(Image.fromarray(pixels), header.orientation)
    stored = (header.width, header.height)
    image: Image.Image
    if header.known:
        image = JpegImageFile(io.BytesIO(data))
        if image.size != stored:
            raise ValueError(f"its sizes differ: {image.size} and {stored}")
        # Pillow takes the smallest scale that is not below the given size.
        image.draft(None, (max(1, header.width // scale), max(1, header.height // scale)))
    else:
        image = decode_isolated(data, stored)
    if image.mode == "CMYK" and not header.adobe:
        # Pillow takes every CMYK JPEG for Adobe's inverted kind; without the marker it is not.
        ink = 255 - np.asarray(image)
        image = Image.frombytes("CMYK", image.size, ink.tobytes())
    return _upright(_rgb(image), header.orientation)


def _plan_jpeg2000(data: bytes, max_pixels: int, at_least: tuple[int, int] | None) -> DecodePlan:
    header = headers.jpeg2000(data)
    turn = orientation.of_jpeg2000(data)
    if at_least and turn in orientation.SIDEWAYS:
        at_least = (at_least[1], at_least[0])
    levels = 0
    width, height = header.width, header.height
    for level in range(1, header.levels + 1) if at_least else ():
        sides = [-(-side // 2**level) for side in (header.height, header.width)]
        # Pillow is used only where it rounds the reduced sides as the decoder does.
        rounded = [(side + 2**level // 2) // 2**level for side in (header.height, header.width)]
        if any(side < least for side, least in zip(sides, at_least or (), strict=True)):
            break
        if sides == rounded:
            levels, (height, width) = level, sides
    _check(width, height, max_pixels)
    _check(header.width, header.height, STORED * max_pixels)
    image = Jpeg2KImageFile(io.BytesIO(data))
    if image.size != (header.width, header.height):
        raise ValueError(f"its sizes differ: {image.size} and {(header.width, header.height)}")
    if levels:
        # Its type is read as that of Image.reduce, which this attribute hides.
        reader: Any = image
        reader.reduce = levels
    cost = _cost(
        (width, height),
        image.mode,
        _Needs(0, _JPEG2000_SAMPLE * header.components),
        transparent=image.mode in ("LA", "RGBA", "PA", "P"),
    )
    return DecodePlan((width, height), cost + header.tile_bytes, _Once(image, turn))


def _plan_ppm(data: bytes, max_pixels: int) -> DecodePlan:
    image = PpmImageFile(io.BytesIO(data))
    _check(*image.size, max_pixels)
    cost = _cost_of(image, _NEEDS["PPM"])
    decoder, _, offset, arguments = image.tile[0]
    samples = math.prod(image.size) * len(image.getbands())
    if decoder == "ppm_plain" and samples > TEXT_SAMPLES:
        raise Refused(
            f"found {samples:,} samples written as text, expected at most {TEXT_SAMPLES:,}; "
            "convert it to binary PPM or PNG"
        )
    if decoder == "ppm" and isinstance(arguments, tuple):
        size, maximum = image.size, int(arguments[1])
        channels = 3 if image.mode == "RGB" else 1
        return DecodePlan(size, cost, lambda: _load_ppm(data, offset, size, channels, maximum))
    return DecodePlan(image.size, cost, _Once(image))


def _load_ppm(
    data: bytes, offset: int, size: tuple[int, int], channels: int, maximum: int
) -> Image.Image:
    """Load binary samples of an unusual `maximum`, which Pillow would convert in Python."""
    width, height = size
    kind = np.dtype(">u2" if maximum > 255 else "u1")
    row = width * channels
    if len(data) - offset < height * row * kind.itemsize:
        raise ValueError("image file is truncated")
    samples = np.frombuffer(data, kind, height * row, offset)
    table = np.round(np.arange(1 << 8 * kind.itemsize) * 255 / maximum).clip(0, 255)
    table = table.astype(np.uint8)
    pixels = np.empty(height * row, np.uint8)
    # In pieces, because indexing takes eight bytes per sample.
    for start in range(0, len(pixels), _PIECE):
        pixels[start : start + _PIECE] = table[samples[start : start + _PIECE]]
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(pixels.reshape(shape)).convert("RGB")


def _plan_tiff(data: bytes, max_pixels: int) -> DecodePlan:
    entry = orientation.find(data)
    turn = entry.value if entry else 1
    if entry and 2 <= turn <= 8:
        # While loading, Pillow applies the tag only if it has certain integer types.
        data = _without_orientation(data, entry)
    image = TiffImageFile(io.BytesIO(data))
    _check(*image.size, max_pixels)
    tile = [image.tag_v2.get(tag, 0) for tag in (322, 323)]
    samples = image.tag_v2.get(277, 1) * 4
    buffers = math.prod(tile) * samples if all(isinstance(side, int) for side in tile) else 0
    turn = turn if 2 <= turn <= 8 else 1
    return DecodePlan(image.size, _cost_of(image, _NEEDS["TIFF"]) + buffers, _Once(image, turn))


def _without_orientation(data: bytes, entry: orientation.OrientationTag) -> bytes:
    """The same TIFF with an Orientation of 1, of type SHORT."""
    order = "<" if data[:2] == b"II" else ">"
    length = entry.stop - entry.start
    upright = struct.pack(order + ("HHQH6x" if length == 20 else "HHIH2x"), 274, 3, 1, 1)
    return data[: entry.start] + upright + data[entry.stop :]


def _upright(image: Image.Image, turn: int) -> Image.Image:
    return image if turn == 1 else image.transpose(orientation.UPRIGHT[turn])


def _rgb(image: Image.Image) -> Image.Image:
    """Load and convert whatever mode Pillow gives the file to RGB."""
    image.load()
    if image.mode.startswith("I;16"):
        return _rgb_from_16_bit_grey(image, np.asarray(image))
    if image.mode == "I" and isinstance(image, PpmImageFile):
        return _rgb_from_16_bit_grey(image, np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise Refused(
            f"{image.format} pixel mode {image.mode} has no agreed range, expected 8 or 16 bits"
        )
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        with_alpha = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _rgb_from_16_bit_grey(image: Image.Image, samples: np.ndarray[Any, Any]) -> Image.Image:
    # The high byte, which Pillow also uses for 16-bit colour.
    grey = (samples >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey).convert("RGB")

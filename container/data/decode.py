"""Bytes of one image to RGB pixels, bounded before anything is decoded.

    pixels = decode(path.read_bytes(), name=path.name)             # uint8 (H, W, 3)
    small = decode(body, name="request body", at_least=(256, 256))  # JPEGs decode reduced

This is the only decoder: training, evaluation and serving all come through here.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from container.data import jpeg
from container.errors import BadImage

MAX_PIXELS = 64_000_000
"""Largest width x height accepted by default: 192 MB of RGB, above any phone's camera mode."""

ACCEPTED = "JPEG, PNG, WebP, BMP or TIFF"

Pixels = npt.NDArray[np.uint8]

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)

# Only for the message: what people most often send instead.
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"<", "HTML, XML or SVG text"),
    (b"{", "JSON text"),
)

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}

# EXIF orientation to the transposition that sets the picture upright (EXIF 2.32, 4.6.4.A).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations whose upright picture has height and width exchanged."""


def decode(
    data: bytes,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> Pixels:
    """Decode one image to uint8 (H, W, 3) RGB, C-contiguous, upright, on white where transparent.

    `name` stands in messages. `max_pixels` bounds width x height as read from the header.
    `at_least` is (height, width) of the upright picture: a JPEG may come back at 1/2, 1/4 or 1/8
    of its size while both sides stay at least that; other formats come back whole.
    16-bit samples keep their high byte. The first frame or page of several is used.

    Raises BadImage, one line, for anything empty, too large, cut short, damaged, or not a
    JPEG, PNG, WebP, BMP or TIFF.
    """
    kind = sniff(data)
    if kind is None:
        raise BadImage(f"{printable(name)}: {_not_an_image(data)}")
    try:
        if kind == "JPEG":
            return _decode_jpeg(data, max_pixels, at_least)
        return _decode_other(data, kind, max_pixels)
    except _TooLarge as error:
        raise BadImage(f"{printable(name)}: {error}") from None
    # Pillow's readers raise whatever the malformed bytes make them trip over.
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        what = "cut short or damaged" if len(data) > 64 else f"cut short ({len(data)} bytes)"
        detail = printable(str(error)) or type(error).__name__
        raise BadImage(f"{printable(name)}: {what} {kind}: {detail}") from error


def sniff(data: bytes) -> str | None:
    """The accepted format the leading bytes announce, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for magic, kind in _SIGNATURES if data.startswith(magic)), None)


class _TooLarge(Exception):
    """The header announces more pixels, or more work, than is accepted."""


def _not_an_image(data: bytes) -> str:
    if not data:
        return f"empty (0 bytes), expected a {ACCEPTED} image"
    found = next((what for magic, what in _REFUSED if data.lstrip()[:8].startswith(magic)), None)
    if found is None and data[4:8] == b"ftyp":
        found = "HEIC, AVIF or video"
    found = found or f"{len(data)} bytes starting {data[:8].hex(' ')}"
    return f"not an accepted image: found {found}, expected {ACCEPTED}"


def printable(text: str) -> str:
    """`text` on one line: control characters and undecodable file-name bytes become spaces."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise _TooLarge(f"found {width} x {height} pixels, expected at least 1 x 1")
    if width * height > max_pixels:
        raise _TooLarge(
            f"found {width} x {height} = {width * height:,} pixels, expected at most {max_pixels:,}"
        )


def _decode_jpeg(data: bytes, max_pixels: int, at_least: tuple[int, int] | None) -> Pixels:
    header = jpeg.read_header(data)
    _check_pixels(header.width, header.height, max_pixels)
    # Entropy-coded 0xFF bytes are stuffed, so the marker's bytes occur only as the marker.
    if data.count(b"\xff\xda") > jpeg.MAX_SCANS:
        raise _TooLarge(f"found more than {jpeg.MAX_SCANS} JPEG scans, expected an ordinary JPEG")
    if at_least and header.orientation in SIDEWAYS:
        at_least = (at_least[1], at_least[0])
    scale = jpeg.reduction(header, at_least)

    pixels = None
    if header.components in (1, 3):
        pixels = jpeg.decode_ordinary(data, header, scale)
    if pixels is None:
        image = JpegImageFile(io.BytesIO(data))
        # A file with two frame headers announces two sizes; the reader believes the last.
        _check_pixels(*image.size, max_pixels)
        # Asked for a size, Pillow takes the smallest scale that is not below it.
        image.draft(None, (max(1, header.width // scale), max(1, header.height // scale)))
        plain_cmyk = image.mode == "CMYK" and not header.adobe
        pixels = _cmyk_as_stored(image) if plain_cmyk else _rgb(image)
    return _upright(pixels, header.orientation)


def _cmyk_as_stored(image: Image.Image) -> Pixels:
    """Pillow takes every CMYK JPEG for Adobe's inverted kind; without the marker it is not."""
    ink = 255 - np.asarray(image)
    return _rgb(Image.frombytes("CMYK", image.size, ink.tobytes()))


def _decode_other(data: bytes, kind: str, max_pixels: int) -> Pixels:
    if kind == "WebP":
        # Pillow's WebP reader allocates the canvas when it opens the file.
        _check_pixels(*_webp_size(data), max_pixels)
    # Opening through the reader's class and not Image.open leaves the process-wide
    # Image.MAX_IMAGE_PIXELS, with its warning, out of it: the limit here is the caller's.
    image = _READERS[kind](io.BytesIO(data))
    _check_pixels(*image.size, max_pixels)
    pixels = _rgb(image)
    # Pillow sets TIFFs upright itself as it loads them; a PNG may name it after its pixels.
    orientation = 1 if kind == "TIFF" else _stored_orientation(image)
    return _upright(pixels, orientation)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP's first chunk (RFC 9649, sections 2.5 to 2.7)."""
    chunk, body = data[12:16], data[20:30]
    if len(body) == 10:
        if chunk == b"VP8X":
            width, height = body[4:7], body[7:10]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        if chunk == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if chunk == b"VP8 ":
            width, height = body[6:8], body[8:10]
            return (
                int.from_bytes(width, "little") & 0x3FFF,
                int.from_bytes(height, "little") & 0x3FFF,
            )
    raise ValueError("its first chunk is not VP8, VP8L or VP8X")


def _stored_orientation(image: Image.Image) -> int:
    exif = image.info.get("exif", b"")
    return jpeg.exif_orientation(exif.removeprefix(b"Exif\0\0"))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation == 1:
        return pixels
    return np.array(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))


def _rgb(image: Image.Image) -> Pixels:
    """Load and convert whatever mode Pillow gives the file to uint8 (H, W, 3)."""
    image.load()
    if image.mode.startswith("I;16"):
        return _rgb_from_16_bit_grey(image)
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise ValueError(f"pixel mode {image.mode} has no agreed range, expected 8 or 16 bits")
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return np.array(image.convert("RGB"))


def _rgb_from_16_bit_grey(image: Image.Image) -> Pixels:
    samples = np.asarray(image)
    # The high byte, as Pillow takes it of 16-bit colour, so grey and colour agree.
    grey = (samples >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)

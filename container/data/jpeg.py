"""What a JPEG says of itself before its pixels are decoded."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import simplejpeg

# A frame header is any SOFn marker; C4, C8 and CC are tables that share the range
# (ITU T.81, table B.1).
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_ORIENTATION_TAG = 0x0112

# Encoders write about ten scans. Thousands of tiny scans over a large frame cost minutes of
# decoding for a few kilobytes, so such files are refused.
MAX_SCANS = 100


@dataclass(frozen=True)
class JpegHeader:
    """Frame size in pixels as stored (before orientation), components, EXIF orientation 1..8."""

    height: int
    width: int
    components: int
    orientation: int
    adobe: bool


class JpegDamage(ValueError):
    """The compressed data ends early or is corrupt; the message is libjpeg's own."""


def read_header(data: bytes) -> JpegHeader:
    """Walk the segments up to the frame header. Raises ValueError when there is none."""
    orientation, adobe = 1, False
    position, end = 2, len(data)
    while position + 4 <= end:
        if data[position] != 0xFF:
            # libjpeg skips stray bytes between segments, and some cameras write them.
            position = data.find(b"\xff", position)
            if position < 0:
                break
            continue
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        start, stop = position + 4, position + 2 + length
        if length < 2 or stop > end:
            break
        if marker in _FRAME_MARKERS:
            if length < 8:
                raise ValueError("its frame header is damaged")
            return JpegHeader(
                height=int.from_bytes(data[start + 1 : start + 3], "big"),
                width=int.from_bytes(data[start + 3 : start + 5], "big"),
                components=data[start + 5],
                orientation=orientation,
                adobe=adobe,
            )
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            orientation = exif_orientation(data[start + 6 : stop])
        elif marker == 0xEE and data[start : start + 5] == b"Adobe":
            adobe = True
        elif marker in (0xD9, 0xDA):
            raise ValueError("it has no frame header")
        position = stop
    raise ValueError("it ends inside its header")


def exif_orientation(tiff: bytes) -> int:
    """Orientation 1..8 from an EXIF block (a TIFF header and its first directory); 1 if unclear."""
    order: Literal["little", "big"]
    if tiff[:4] == b"II*\0":
        order = "little"
    elif tiff[:4] == b"MM\0*":
        order = "big"
    else:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    directory = number(4, 4)
    for index in range(number(directory, 2)):
        entry = directory + 2 + 12 * index
        if entry + 12 > len(tiff):
            break
        if number(entry, 2) == _ORIENTATION_TAG:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def reduction(header: JpegHeader, at_least: tuple[int, int] | None) -> int:
    """8, 4, 2 or 1: the most the sides may be divided by and stay at least (height, width).

    libjpeg-turbo knows other factors too, but has no fast inverse DCT for them.
    """
    if at_least is None:
        return 1
    height, width = at_least
    fitting = (s for s in (8, 4, 2) if -(-header.height // s) >= height)
    return next((s for s in fitting if -(-header.width // s) >= width), 1)


def decode_ordinary(data: bytes, header: JpegHeader, scale: int) -> npt.NDArray[np.uint8] | None:
    """Decode a grey or three-component JPEG to uint8 (H, W, 3) RGB, as stored.

    The sides come divided by `scale` (1, 2, 4 or 8), rounded up. None when libjpeg-turbo's
    simple interface does not take the file (rare subsampling, bytes between segments) and a
    fuller decoder should judge it. Raises JpegDamage when the compressed data is cut short or
    corrupt.
    """
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            "RGB",
            min_height=-(-header.height // scale),
            min_width=-(-header.width // scale),
            min_factor=scale,
        )
    except ValueError as error:
        message = str(error)
        corrupt = message.startswith("Corrupt JPEG data") and "extraneous" not in message
        if corrupt or message.startswith("Premature end"):
            raise JpegDamage(message) from None
        return None
    return pixels

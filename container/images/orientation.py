"""The EXIF orientation, from every place where an image file may store it.

1 is upright; 2 to 8 must be undone (EXIF 2.32, section 4.6.4.A). Invalid values count as 1.
"""

import re
from typing import Literal, NamedTuple

from PIL import Image

SIDEWAYS = frozenset({5, 6, 7, 8})
"""Orientations whose upright image has height and width exchanged."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation to the transposition that makes the image upright."""

_TAG = 0x0112
# The integer types of TIFF 6.0 and BigTIFF, and their sizes in bytes.
_INTEGERS = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}
_TAGS = 4096

_XMP = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|\s*>)\s*([0-9]+)")
# ExifTool's and Photoshop's box of a JPEG 2000 file that holds an EXIF block.
_JP2_EXIF = b"JpgTiffExif->JP2"


class OrientationTag(NamedTuple):
    """The Orientation tag: its value, and where the tag's own bytes start and end."""

    value: int
    start: int
    stop: int


def exif_orientation(block: bytes) -> int:
    """1..8 from an EXIF block, with or without its `Exif\\0\\0`; 1 if invalid."""
    entry = find(block.removeprefix(b"Exif\0\0"))
    return entry.value if entry and 1 <= entry.value <= 8 else 1


def find(tiff: bytes) -> OrientationTag | None:
    """The Orientation tag in the first directory of a TIFF, BigTIFF or EXIF block."""
    order: Literal["little", "big"]
    if tiff[:2] == b"II":
        order = "little"
    elif tiff[:2] == b"MM":
        order = "big"
    else:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    version = number(2, 2)
    if version not in (42, 43):
        return None
    big = version == 43
    count_size, pointer, entry_size = (8, 8, 20) if big else (2, 4, 12)
    directory = number(8 if big else 4, pointer)
    value_at = entry_size - pointer
    for index in range(min(number(directory, count_size), _TAGS)):
        start = directory + count_size + entry_size * index
        stop = start + entry_size
        if stop > len(tiff):
            return None
        if number(start, 2) != _TAG:
            continue
        size = _INTEGERS.get(number(start + 2, 2))
        count = number(start + 4, pointer)
        if size is None or count < 1:
            return OrientationTag(1, start, stop)
        inside = size * count <= pointer
        at = start + value_at if inside else number(start + value_at, pointer)
        return OrientationTag(number(at, size), start, stop)
    return None


def of_xmp(packet: bytes) -> int:
    """1..8 from an XMP packet's `tiff:Orientation`."""
    found = _XMP.search(packet)
    value = int(found[1][:3]) if found else 1
    return value if 1 <= value <= 8 else 1


def of_info(info: dict[str | tuple[int, int], object]) -> int:
    """1..8 from Pillow's metadata of a PNG or WebP: EXIF before XMP."""
    exif = info.get("exif") or _raw_profile(info.get("Raw profile type exif"))
    if isinstance(exif, bytes) and find(exif.removeprefix(b"Exif\0\0")):
        return exif_orientation(exif)
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "replace")
    return of_xmp(xmp) if isinstance(xmp, bytes) else 1


def of_jpeg2000(data: bytes) -> int:
    """1..8 from the EXIF box of a JP2 file; 1 for a bare codestream, which has no boxes."""
    position = 0
    while data[4:8] == b"jP  " and position + 8 <= len(data):
        length, kind = (
            int.from_bytes(data[position : position + 4], "big"),
            data[position + 4 : position + 8],
        )
        body = position + 8
        if length == 1:
            length, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        stop = position + length if length else len(data)
        if stop < body:
            break
        if kind == b"uuid" and data[body : body + 16] == _JP2_EXIF:
            return exif_orientation(data[body + 16 : stop])
        position = stop
    return 1


def _raw_profile(text: object) -> bytes:
    """Parse ImageMagick's EXIF block in a PNG: a name, a length, then hexadecimal digits."""
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""

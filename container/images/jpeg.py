"""JPEG headers, parsed before decoding, and the fast decoder for ordinary JPEGs.

The fast decoder gets only frames that it is known to decode within the buffer it allocates: a
lossless frame, for example, ignores a reduced scale and overflows the smaller buffer.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg

from container.images.formats import unread
from container.images.orientation import exif_orientation, find, of_xmp

# Frame headers by the process they announce (ITU T.81, table B.1).
_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS = 0xC0, 0xC1, 0xC2, 0xC3
_UNREAD = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF), "hierarchical JPEG"),
    0xCB: "lossless JPEG with arithmetic coding",
    0xF7: "JPEG-LS",
}
_INTO = "8-bit baseline JPEG or PNG"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)})
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Factors that libjpeg-turbo's simple interface has a name for: (luma), with chroma (1, 1).
_ORDINARY_LUMA = frozenset({(1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (1, 4)})

MAX_SCANS = 100
"""Encoders write about ten scans. Thousands of tiny ones over a large frame cost minutes of
decoding for a few kilobytes."""

MAX_SEGMENTS = 10_000
"""A colour profile of the largest size takes 255."""


@dataclass(frozen=True)
class JpegHeader:
    """The fields of the segments up to the image's end.

    Attributes:
        height, width: pixels of the frame as stored, before orientation.
        frame: the frame's marker, 0xC0 to 0xCF.
        precision: bits per sample.
        sampling: (horizontal, vertical) factors of each component.
        orientation: EXIF's, 1..8.
        adobe: whether it has Adobe's marker.
        scans: number of scans.
        plain: whether there are no unknown bytes between segments.
    """

    height: int
    width: int
    frame: int
    precision: int
    sampling: tuple[tuple[int, int], ...]
    orientation: int
    adobe: bool
    scans: int
    plain: bool

    @property
    def components(self) -> int:
        """Number of colour components per pixel."""
        return len(self.sampling)

    @property
    def known(self) -> bool:
        """Whether it is an 8-bit Huffman frame of the three ordinary processes."""
        return self.plain and self.frame in (_BASELINE, _EXTENDED, _PROGRESSIVE)

    @property
    def ordinary(self) -> bool:
        """Whether the fast decoder is certain to decode it within its buffer."""
        if self.components == 1:
            return self.known and self.sampling[0] in ((1, 1), (2, 2))
        return (
            self.known
            and self.components == 3
            and self.sampling[0] in _ORDINARY_LUMA
            and self.sampling[1:] == ((1, 1), (1, 1))
        )

    @property
    def kept_bytes(self) -> int:
        """Bytes of coefficients that libjpeg keeps if there is more than one scan."""
        if self.scans < 2 and self.frame not in (_PROGRESSIVE, 0xCA):
            return 0
        across = max(h for h, _ in self.sampling)
        down = max(v for _, v in self.sampling)
        share = sum(h * v for h, v in self.sampling) / (across * down)
        return int(2 * share * (self.height + 8 * down) * (self.width + 8 * across))


class JpegDamage(ValueError):
    """The compressed data ends early or is corrupt; the message is libjpeg's own."""


class UnreadJpeg(ValueError):
    """A JPEG that no decoder here reads, or that exceeds a limit, which the message names."""


def read_header(data: bytes) -> JpegHeader:
    """Read the segments as libjpeg does, to the image's end.

    Raises ValueError if there is not exactly one frame header or a marker is misplaced, and
    UnreadJpeg if no decoder reads such a frame or it has too many scans or segments.
    """
    reader = _SegmentReader(data)
    reader.run()
    return reader.header()


class _SegmentReader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._frame: tuple[int, bytes] | None = None
        self._exif = b""
        self._xmp = 1
        self._adobe = False
        self._scans = 0
        self._plain = True

    def run(self) -> None:
        data, position, end = self._data, 2, len(self._data)
        for _ in range(MAX_SEGMENTS):
            at = data.find(b"\xff", position)
            self._plain &= at == position
            while 0 <= at < end and data[at] == 0xFF:  # Any number of fill bytes.
                at += 1
            if at < 0 or at >= end:
                return
            marker, position = data[at], at + 1
            if marker == 0xD9:
                return
            if marker == 0 or marker in _STANDALONE:
                self._plain = False
                continue
            length = int.from_bytes(data[position : position + 2], "big")
            start, position = position + 2, position + length
            if marker in _UNREAD:
                raise UnreadJpeg(unread(_UNREAD[marker], _INTO))
            if marker not in _TABLES and marker not in _FRAMES and marker != 0xDA:
                raise ValueError(f"it has an unknown marker FF{marker:02X}")
            if length < 2 or position > end:
                if self._scans:
                    return
                raise ValueError("it ends inside its header")
            self._segment(marker, data[start:position])
            if marker == 0xDA:
                following = _IN_SCAN.search(data, position)
                if following is None:
                    return
                position = following.start()
        raise UnreadJpeg(
            f"found more than {MAX_SEGMENTS:,} JPEG segments, expected an ordinary JPEG"
        )

    def header(self) -> JpegHeader:
        if self._frame is None or not self._scans:
            raise ValueError("it ends inside its header")
        marker, body = self._frame
        count = body[5] if len(body) > 5 else 0
        if len(body) != 6 + 3 * count or not count:
            raise ValueError("its frame header is damaged")
        factors = tuple((byte >> 4, byte & 15) for byte in body[7::3])
        if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
            raise ValueError("its sampling factors are damaged")
        header = JpegHeader(
            height=int.from_bytes(body[1:3], "big"),
            width=int.from_bytes(body[3:5], "big"),
            frame=marker,
            precision=body[0],
            sampling=factors,
            orientation=exif_orientation(self._exif) if find(self._exif) else self._xmp,
            adobe=self._adobe,
            scans=self._scans,
            plain=self._plain,
        )
        if header.precision != 8:
            lossless = "lossless " if marker == _LOSSLESS else ""
            raise UnreadJpeg(unread(f"{header.precision}-bit {lossless}JPEG", _INTO))
        if count not in (1, 3, 4):
            raise UnreadJpeg(unread(f"JPEG of {count} components", _INTO))
        return header

    def _segment(self, marker: int, body: bytes) -> None:
        if marker in _FRAMES:
            if self._frame is not None:
                raise ValueError("it has two frame headers")
            self._frame = marker, body
        elif marker == 0xDA:
            if self._frame is None:
                raise ValueError("it has no frame header")
            self._scans += 1
            if self._scans > MAX_SCANS:
                raise UnreadJpeg(
                    f"found more than {MAX_SCANS} JPEG scans, expected an ordinary JPEG"
                )
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            self._exif = self._exif or body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/"):
            self._xmp = of_xmp(body)
        elif marker == 0xEE and body.startswith(b"Adobe"):
            self._adobe = True


def reduction(header: JpegHeader, at_least: tuple[int, int] | None) -> int:
    """The largest of 8, 4, 2 and 1 that keeps the sides at least (height, width).

    libjpeg-turbo has other factors, but no fast inverse DCT for them.
    """
    if at_least is None:
        return 1
    height, width = at_least
    fitting = (s for s in (8, 4, 2) if -(-header.height // s) >= height)
    return next((s for s in fitting if -(-header.width // s) >= width), 1)


def decode_ordinary(data: bytes, header: JpegHeader, scale: int) -> npt.NDArray[np.uint8] | None:
    """Decode an `ordinary` JPEG to uint8 (H, W, 3) RGB, as stored.

    The sides are divided by `scale` (1, 2, 4 or 8), rounded up. None if libjpeg-turbo's simple
    interface refuses the file or finds another size, and another decoder should try. Raises
    JpegDamage if the compressed data are cut short or corrupt.
    """
    height, width = -(-header.height // scale), -(-header.width // scale)
    sides = {"min_height": height, "min_width": width, "min_factor": scale}
    try:
        if simplejpeg.decode_jpeg_header(data, **sides)[:2] != (height, width):
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", **sides)
    except ValueError as error:
        message = str(error)
        corrupt = message.startswith("Corrupt JPEG data") and "extraneous" not in message
        if corrupt or message.startswith("Premature end"):
            raise JpegDamage(message) from None
        return None
    return pixels

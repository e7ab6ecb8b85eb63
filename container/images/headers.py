"""Image sizes read from headers before decoders allocate memory for them."""

from typing import NamedTuple

# Bytes that openjpeg keeps per tile, and per component of a tile (opj_tcp_t, opj_tccp_t).
_TILE, _TILE_COMPONENT = 6_000, 1_200


class Jpeg2000Header(NamedTuple):
    """Sides in pixels, components, resolutions below the full one, and bytes kept for tiles."""

    width: int
    height: int
    components: int
    levels: int
    tile_bytes: int


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP's first chunk (RFC 9649, sections 2.5 to 2.7)."""
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(body) == 10:
        if chunk == b"VP8X":
            width, height = body[4:7], body[7:10]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        if chunk == b"VP8 ":
            width, height = body[6:8], body[8:10]
            return (
                int.from_bytes(width, "little") & 0x3FFF,
                int.from_bytes(height, "little") & 0x3FFF,
            )
    raise ValueError("its first chunk is not VP8, VP8L or VP8X")


def jpeg2000(data: bytes) -> Jpeg2000Header:
    """Parse the codestream's SIZ and COD segments (ITU T.800, annex A.5 and A.6).

    A JP2 file's own header may differ; the decoder uses the codestream's.
    """
    start = _codestream(data)
    position, size = start + 2, None
    while position + 4 <= len(data):
        marker, length = data[position : position + 2], _number(data, position + 2, 2)
        body = data[position + 4 : position + 2 + length]
        if marker == b"\xff\x51" and len(body) >= 36:
            size = body
        elif marker == b"\xff\x52" and len(body) >= 6 and size is not None:
            return _sized(size, levels=body[5])
        elif marker in (b"\xff\x90", b"\xff\xd9") or length < 2:
            break
        position += 2 + length
    raise ValueError("its codestream has no size or coding style")


def _sized(size: bytes, levels: int) -> Jpeg2000Header:
    right, below, left, top, across, down = (_number(size, 2 + 4 * at, 4) for at in range(6))
    components = _number(size, 34, 2)
    if right <= left or below <= top or not across or not down:
        raise ValueError("its codestream has no area")
    tiles = -(-right // across) * -(-below // down)
    return Jpeg2000Header(
        right - left,
        below - top,
        components,
        # With an offset, reduced sides are rounded differently.
        0 if left or top else levels,
        tiles * (_TILE + _TILE_COMPONENT * components),
    )


def _codestream(data: bytes) -> int:
    if data.startswith(b"\xff\x4f"):
        return 0
    position = 0
    while position + 8 <= len(data):
        length, kind, header = _number(data, position, 4), data[position + 4 : position + 8], 8
        if length == 1:
            length, header = _number(data, position + 8, 8), 16
        if kind == b"jp2c":
            return position + header
        if length < header:
            break
        position += length
    raise ValueError("it has no codestream")


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")

"""Frames of `application/vnd.amazon.eventstream`, as botocore decodes them.

A frame is: total length and headers' length (32 bits each, big-endian), the CRC-32 of these eight
bytes, the headers, the payload, and the CRC-32 of everything before. A header is: its name's length
(8 bits), the name, the type (7: string), the value's length (16 bits) and the value.
"""

import json
import struct
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"
PART_BYTES = 1 << 20
"""Most payload bytes per frame; a longer chunk is split."""
_STRING = 7


def encode(headers: dict[str, str], payload: bytes) -> bytes:
    """Encode a frame."""
    packed = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    frame = b"".join((prelude, struct.pack("!I", crc32(prelude)), packed, payload))
    return frame + struct.pack("!I", crc32(frame))


def payload_part(chunk: bytes) -> bytes:
    """Encode a chunk of the model's response as one or more `PayloadPart` frames."""
    headers = {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    parts = range(0, len(chunk), PART_BYTES)
    return b"".join(encode(headers, chunk[start : start + PART_BYTES]) for start in parts)


def stream_error(kind: str, members: dict[str, str]) -> bytes:
    """Encode the frame that ends a stream with an error, such as `ModelStreamError`."""
    headers = {
        ":exception-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode(headers, json.dumps(members).encode())


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return b"".join((bytes([len(key)]), key, bytes([_STRING]), struct.pack("!H", len(text)), text))

"""Frames of `application/vnd.amazon.eventstream`, as botocore decodes them.

A frame is: total length and headers' length (32 bits each, big-endian), the CRC-32 of those eight
bytes, the headers, the payload, the CRC-32 of all before it. A header is its name's length (8
bits), the name, the type (7: a string), the value's length (16 bits) and the value.
"""

import json
import struct
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"
PART_BYTES = 1 << 20
"""The most one frame carries; longer chunks come in several."""
_STRING = 7


def encode(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame."""
    packed = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    frame = b"".join((prelude, struct.pack("!I", crc32(prelude)), packed, payload))
    return frame + struct.pack("!I", crc32(frame))


def payload_part(chunk: bytes) -> bytes:
    """A chunk of the model's answer, in one frame or more."""
    headers = {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    parts = range(0, len(chunk), PART_BYTES)
    return b"".join(encode(headers, chunk[start : start + PART_BYTES]) for start in parts)


def stream_error(kind: str, members: dict[str, str]) -> bytes:
    """The frame that ends a stream with an error, e.g. `ModelStreamError`."""
    headers = {
        ":exception-type": kind,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    return encode(headers, json.dumps(members).encode())


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return b"".join((bytes([len(key)]), key, bytes([_STRING]), struct.pack("!H", len(text)), text))

import json

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer

from local.emulator.hosting.event_stream import PART_BYTES, encode, payload_part, stream_error


def decode(data: bytes) -> list[tuple[dict[str, str], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(event.headers, event.payload) for event in buffer]


def test_botocore_reads_a_part() -> None:
    assert decode(payload_part(b"hello")) == [
        (
            {
                ":event-type": "PayloadPart",
                ":content-type": "application/octet-stream",
                ":message-type": "event",
            },
            b"hello",
        )
    ]


def test_a_long_chunk_is_split_into_several_frames() -> None:
    chunk = bytes(range(256)) * (PART_BYTES // 100)
    frames = decode(payload_part(chunk))
    assert len(frames) == 3
    assert b"".join(payload for _, payload in frames) == chunk
    assert payload_part(b"") == b""


def test_botocore_reads_an_error() -> None:
    frame = stream_error("ModelStreamError", {"Message": "gone", "ErrorCode": "StreamBroken"})
    [(headers, payload)] = decode(frame)
    assert headers[":message-type"] == "exception"
    assert headers[":exception-type"] == "ModelStreamError"
    assert json.loads(payload) == {"Message": "gone", "ErrorCode": "StreamBroken"}


def test_non_ascii_text_and_consecutive_frames() -> None:
    frames = encode({"name": "café"}, b"1") + encode({}, b"")
    assert decode(frames) == [({"name": "café"}, b"1"), ({}, b"")]


@pytest.mark.parametrize("position", [2, 10, 20, -1])
def test_a_changed_byte_is_detected(position: int) -> None:
    frame = bytearray(encode({"name": "value"}, b"payload"))
    frame[position] ^= 1
    with pytest.raises(ChecksumMismatch):
        decode(bytes(frame))

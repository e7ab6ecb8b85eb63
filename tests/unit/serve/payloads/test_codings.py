import gzip
import io
import tracemalloc
import zlib
from collections.abc import Callable
from time import monotonic

import numpy as np
import pytest

from serve.errors import BadRequest
from serve.payloads.body import read_body
from serve.payloads.codings import MEMBERS, PIECE, decoder

DATA = np.random.default_rng(0).bytes(100_000) + bytes(100_000)
LIMIT = 1 << 20


def raw(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


CODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip by its old name": ("X-GZIP", gzip.compress),
    "gzip beside identity": ("identity, gzip", gzip.compress),
    "members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", raw),
    "identity": ("identity", bytes),
    "nothing": ("", bytes),
}


def read(coding: str, body: bytes, limit: int = LIMIT, *, chunked: bool = False) -> bytes:
    length = (
        {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": str(len(body))}
    )
    stream = io.BytesIO(body)
    given = {"wsgi.input": stream, "HTTP_CONTENT_ENCODING": coding, **length}
    try:
        return read_body(given, limit, monotonic() + 60)
    finally:
        assert stream.read() == b"", "what is refused is read away"


def refused(coding: str, body: bytes, limit: int = LIMIT, *, chunked: bool = False) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        read(coding, body, limit, chunked=chunked)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("case", CODED)
def test_a_compressed_body_is_decompressed(case: str, *, chunked: bool) -> None:
    coding, encode = CODED[case]
    assert read(coding, encode(DATA), chunked=chunked) == DATA


@pytest.mark.parametrize("case", CODED)
def test_a_compressed_body_may_arrive_byte_by_byte(case: str) -> None:
    coding, encode = CODED[case]
    data = DATA[-1000:] + DATA[:1000]
    body, stream = encode(data), decoder(coding)
    got = b"".join(part for byte in body for part in stream.decode(bytes([byte])))
    stream.end()
    assert got == data


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress, raw])
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(
    encode: Callable[[bytes], bytes],
) -> None:
    bomb = encode(bytes(100 * LIMIT))
    assert len(bomb) < LIMIT
    coding = "gzip" if encode is gzip.compress else "deflate"
    tracemalloc.start()
    try:
        error = refused(coding, bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.status == 413
    assert "SAGEMAKER_MAX_PAYLOAD_IN_MB" in str(error)
    assert peak < 10 * LIMIT


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    assert len(read("gzip", gzip.compress(bytes(LIMIT)))) == LIMIT
    assert refused("gzip", gzip.compress(bytes(LIMIT + 1))).status == 413


def test_received_bytes_are_limited_too() -> None:
    """The deflate blocks are empty."""
    stream = zlib.compressobj(wbits=31)
    body = stream.compress(b"a") + b"".join(stream.flush(zlib.Z_FULL_FLUSH) for _ in range(9))
    body += b"\0\0\0\xff\xff" * 1000 + stream.flush()
    assert read("gzip", body, limit=len(body)) == b"a"
    for chunked in (False, True):
        assert refused("gzip", body, limit=len(body) - 1, chunked=chunked).status == 413


def test_gzip_members_are_limited() -> None:
    empty = gzip.compress(b"")
    assert read("gzip", empty * MEMBERS) == b""
    assert refused("gzip", empty * (MEMBERS + 1)).status == 400


def test_decompressed_bytes_count_towards_the_total_of_all_bodies() -> None:
    counted: list[int] = []
    body = gzip.compress(DATA)
    given = {
        "wsgi.input": io.BytesIO(body),
        "HTTP_CONTENT_ENCODING": "gzip",
        "CONTENT_LENGTH": str(len(body)),
    }
    read_body(given, LIMIT, monotonic() + 60, counted.append)
    assert sum(counted) == len(DATA)
    assert max(counted) <= PIECE


@pytest.mark.parametrize("case", [case for case, (coding, _) in CODED.items() if "fl" in coding])
@pytest.mark.parametrize("kept", [0, 1, 2, 50, -1])
def test_a_truncated_deflate_stream_is_refused(case: str, kept: int) -> None:
    coding, encode = CODED[case]
    assert refused(coding, encode(DATA)[:kept]).status == 400


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 50, -8, -1])
def test_a_truncated_gzip_stream_is_refused(kept: int) -> None:
    error = refused("gzip", gzip.compress(DATA)[:kept])
    assert error.status == 400
    assert "gzip" in str(error) or kept == 0


@pytest.mark.parametrize("at", [0, 2, 20, 50_000, -8, -1])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_damaged_stream_is_refused(coding: str, at: int) -> None:
    body = bytearray(CODED[coding][1](DATA))
    body[at] ^= 0xFF
    assert refused(coding, bytes(body)).status == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("more", [b"\0", b"more", bytes(70_000)])
def test_bytes_after_its_end_are_refused(coding: str, more: bytes) -> None:
    encode = CODED[coding][1]
    assert refused(coding, encode(DATA) + more).status == 400
    assert refused(coding, encode(b"a" * (PIECE * 4)) + more, chunked=True).status == 400


def test_an_uncompressed_body_with_content_encoding_is_explained() -> None:
    error = refused("gzip", b"\xff\xd8\xff\xe0 a JPEG file, for example")
    assert error.status == 400
    assert "omit the header" in str(error)


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "compress", "gzip, deflate", "gzip, gzip", "\xff"]
)
def test_other_codings_are_refused_with_the_supported_ones(coding: str) -> None:
    error = refused(coding, b"body" * 100_000)
    assert error.status == 415
    assert f"found {coding}" in str(error)
    assert error.headers == {"Accept-Encoding": "gzip, deflate"}

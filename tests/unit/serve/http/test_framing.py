"""Finding the end of a body in bytes that arrive in any pieces."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.http.framing import MAX_CHUNK_LINE, MAX_HELD_BODY, body_of, without_expectation

LINE = b"POST /invocations HTTP/1.1\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"


def whole_at(head: bytes, body: bytes, cuts: list[int]) -> int:
    """Return how many bytes had arrived when the body was found complete; -1 if it never was."""
    found, received = body_of(head), bytearray(head)
    ends = sorted({min(end, len(body)) for end in accumulate(cuts)} | {0, len(body)})
    for begin, end in zip([0, *ends], ends, strict=False):
        received += body[begin:end]
        if found.is_whole(received):
            return end
    return -1


def chunked(parts: list[bytes], extension: bytes, trailers: bytes) -> bytes:
    sizes = (b"%X%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return b"".join(sizes) + b"0\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40)),
    st.sampled_from([b"", b";a", b' ;a="b"']),
    st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]),
    st.lists(st.integers(1, 20)),
    st.binary(max_size=20),
)
def test_a_chunked_body_is_complete_with_its_last_byte(
    parts: list[bytes], extension: bytes, trailers: bytes, cuts: list[int], after: bytes
) -> None:
    body = chunked(parts, extension, trailers)
    singly = [1] * len(body)
    assert whole_at(CHUNKED, body, singly) == len(body)
    assert whole_at(CHUNKED, body[:-1], cuts) == -1
    assert whole_at(CHUNKED, body + after, cuts) >= len(body)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b"5 5\r\n",
        b"123456789\r\n",
        b"1\r\nabc\r\n",
        b"1" * (MAX_CHUNK_LINE + 2),
        b"0\r\n" + b"A: b\r\n" * MAX_CHUNK_LINE,
        b"%x\r\n" % (MAX_HELD_BODY + 1),
        b"8\r\n12345678\r\n%x\r\n" % MAX_HELD_BODY,
    ],
)
def test_the_rest_of_a_malformed_or_too_long_body_is_not_awaited(body: bytes) -> None:
    assert whole_at(CHUNKED, body, [1 << 14] * 8) >= 0


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (b"", 0),
        (b"Content-Length: 5\r\n", 5),
        (b"CONTENT-LENGTH:5 \r\nX: y\r\n", 5),
        (b"Content-Length: 5\r\nExpect: 100-Continue\r\n", 5),
        (b"X: Content-Length: 5\r\n", 0),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", 0),
        (b"Content-Length: five\r\n", 0),
        (b"Content-Length: -5\r\n", 0),
        (b"Content-Length: %d\r\n" % MAX_HELD_BODY, MAX_HELD_BODY),
        (b"Content-Length: %d\r\n" % (MAX_HELD_BODY + 1), 0),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 0),
        (b"Transfer-Encoding: gzip, chunked\r\n", 0),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 0),
        (b"Content-Length: 5\r\nExpect: the-worst\r\n", 0),
        (b"Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n", 0),
    ],
)
def test_ambiguous_headers_are_left_to_the_parser(fields: bytes, length: int) -> None:
    head = LINE + fields + b"\r\n"
    body = body_of(head)
    assert body.is_whole(bytearray(head + bytes(length)))
    assert length == 0 or not body.is_whole(bytearray(head + bytes(length - 1)))


@pytest.mark.parametrize(
    "field", [b"Transfer-Encoding: chunked", b"Content-Length: 5\r\nExpect: 100-continue"]
)
def test_fields_that_http_1_0_lacks_are_ignored(field: bytes) -> None:
    head = b"POST / HTTP/1.0\r\n" + field + b"\r\n\r\n"
    assert body_of(head).is_whole(bytearray(head))


def test_only_the_expect_field_is_removed_from_the_headers() -> None:
    head = LINE + b"Host: x\r\nexpect: 100-continue\r\nX-Expect: 100-continue\r\n\r\n"
    assert without_expectation(head) == LINE + b"Host: x\r\nX-Expect: 100-continue\r\n\r\n"
    assert without_expectation(CHUNKED) == CHUNKED

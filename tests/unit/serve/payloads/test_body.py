import io
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from serve.errors import BadRequest, Overloaded
from serve.payloads.body import Admission, declared_length, read_body

SOON = 30.0


class Drip:
    """A client that never stops sending and counts the bytes read from it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int) -> bytes:
        self.taken += size
        return bytes(size)


def environ(data: bytes = b"", length: str | None = None, **more: Any) -> dict[str, Any]:
    length = str(len(data)) if length is None else length
    return {"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": length, **more}


def chunked(stream: Any) -> dict[str, Any]:
    return {"wsgi.input": stream, "HTTP_TRANSFER_ENCODING": "chunked"}


def read(given: dict[str, Any], limit: int = 100_000) -> bytes:
    return read_body(given, limit, monotonic() + SOON)


def test_a_body_within_the_limit_is_read_completely() -> None:
    data = bytes(range(256)) * 390
    assert read(environ(data)) == data
    assert read(chunked(io.BytesIO(data))) == data
    assert read(environ()) == b""


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    assert len(read(environ(bytes(1000)), limit=1000)) == 1000
    assert len(read(chunked(io.BytesIO(bytes(1000))), limit=1000)) == 1000


def test_nothing_is_read_beyond_the_declared_length() -> None:
    given = environ(b"one request, and the next", length="11")
    assert read(given) == b"one request"


@pytest.mark.parametrize("given", [environ(bytes(1001)), chunked(io.BytesIO(bytes(1001)))])
def test_a_body_above_the_limit_is_refused_and_drained(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"expected at most 1,000 .*MAX_PAYLOAD_IN_MB") as refused:
        read(given, limit=1000)
    assert refused.value.status == 413
    assert given["wsgi.input"].read() == b""


def test_reading_an_endless_body_stops() -> None:
    drip = Drip()
    with pytest.raises(BadRequest) as refused:
        read(chunked(drip), limit=1000)
    assert refused.value.status == 413
    assert drip.taken < 300 * 1024 * 1024


def test_a_truncated_body_is_reported() -> None:
    with pytest.raises(BadRequest, match="found 3 bytes, expected 10"):
        read(environ(b"abc", length="10"))


def test_a_body_too_slow_is_a_timeout() -> None:
    with pytest.raises(BadRequest) as refused:
        read_body(environ(b"abc"), 1000, monotonic() - 1)
    assert refused.value.status == 408


class Broken:
    def __init__(self, error: OSError) -> None:
        self.error = error

    def read(self, _size: int) -> bytes:
        raise self.error


def test_stalled_and_broken_connections_have_different_errors() -> None:
    with pytest.raises(BadRequest) as stalled:
        read(chunked(Broken(TimeoutError())))
    assert stalled.value.status == 408
    with pytest.raises(BadRequest, match="reset") as broken:
        read(chunked(Broken(ConnectionResetError("reset"))))
    assert broken.value.status == 400


@pytest.mark.parametrize("length", ["ten", "-1", "1e3", "²"])
def test_a_length_that_is_not_a_number_is_refused(length: str) -> None:
    with pytest.raises(BadRequest, match="Content-Length"):
        declared_length({"CONTENT_LENGTH": length})


def test_a_chunked_body_has_no_declared_length() -> None:
    assert declared_length({"HTTP_TRANSFER_ENCODING": "chunked"}) is None
    assert declared_length({}) == 0


def test_admission_limits_concurrent_requests() -> None:
    admission = Admission(requests=2, payload=100)
    with admission.admit(10), admission.admit(10), pytest.raises(Overloaded), admission.admit(10):
        pass
    with admission.admit(10):
        pass


def test_admission_limits_the_bytes_of_all_bodies_together() -> None:
    admission = Admission(requests=9, payload=100)
    with admission.admit(60):
        with admission.admit(40):
            pass
        with pytest.raises(Overloaded), admission.admit(41):
            pass
    with admission.admit(100):
        pass


def test_bytes_count_when_received_not_when_announced() -> None:
    admission = Admission(requests=99, payload=100)
    with ExitStack() as stack:
        places = [stack.enter_context(admission.admit(announced=80)) for _ in range(9)]
        for place in places:
            place.add(11)
        with pytest.raises(Overloaded):
            places[0].add(2)
        with pytest.raises(Overloaded), admission.admit(announced=2):
            pass
        places[0].add(1)
    with admission.admit(100):
        pass


def test_a_body_larger_than_the_free_bytes_is_refused() -> None:
    admission = Admission(requests=9, payload=150_000)
    for given in (environ(bytes(200_000)), chunked(io.BytesIO(bytes(200_000)))):
        with pytest.raises(Overloaded), admission.admit() as place:
            read_body(given, 1_000_000, monotonic() + SOON, place.add)
    with admission.admit(150_000):
        pass


def test_a_length_of_too_many_digits_is_too_large() -> None:
    with pytest.raises(BadRequest) as refused:
        read(environ(b"", length="9" * 5000))
    assert refused.value.status == 413


def test_admission_releases_the_place_after_an_error() -> None:
    admission = Admission(requests=1, payload=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"), admission.admit(1):
            raise ValueError("boom")

"""Sends ten thousand random requests: a real server answers or refuses each and keeps running.

The cases are the same in every run.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.serve.artifacts import CROP, picture, write_artifact
from tests.unit.serve.server import Server, serving

GROWTH = 150 * 2**20
"""Bytes by which the worker may grow: a picture's decoder, and what malloc keeps."""


def cases(count: int) -> settings:
    """Run this many examples, without a time limit for each, as the machine may be busy."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def pictures() -> list[bytes]:
    """Return one small picture in each format and variant that is decoded differently."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    variants: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("CMYK", "JPEG", {}),
        ("L", "JPEG", {}),
        ("RGB", "PNG", {}),
        ("P", "PNG", {"transparency": 0}),
        ("I;16", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("P", "GIF", {}),
        ("P", "GIF", {"save_all": True, "append_images": [Image.new("P", (24, 20))]}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "tiff_deflate"}),
        ("1", "TIFF", {"compression": "group4"}),
        ("RGB", "BMP", {}),
        ("P", "BMP", {}),
        ("RGB", "PPM", {}),
        ("RGB", "AVIF", {}),
        ("RGB", "JPEG2000", {}),
    ]
    found = []
    for mode, kind, options in variants:
        data = io.BytesIO()
        image.convert("L").convert(mode).save(data, kind, **options) if mode == "I;16" else (
            image.convert(mode).save(data, kind, **options)
        )
        found.append(data.getvalue())
    return found


PICTURES = pictures()


def array() -> bytes:
    data = io.BytesIO()
    np.save(data, np.zeros((2, CROP, CROP, 3), np.uint8))
    return data.getvalue()


DOCUMENT = json.dumps({"instances": [{"b64": base64.b64encode(picture()).decode()}] * 2}).encode()
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n" + picture() + b"\r\n--x--\r\n"
)

Damage = list[tuple[str, int, int]]
DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "drop", "repeat", "insert", "number", "splice"]),
        st.integers(0, 9999),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=4,
)
"""Each: what is done, where (in ten-thousandths of the length), and with what."""


def damaged(data: bytes, damage: Damage) -> bytes:
    for what, where, value in damage:
        at = where * len(data) // 10_000
        length = 1 + value % 40
        if what == "flip":
            data = data[:at] + bytes([data[at] ^ 1 << value % 8]) + data[at + 1 :] if data else data
        elif what == "set":
            data = data[:at] + bytes([value % 256]) * length + data[at + length :]
        elif what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[at + length :]
        elif what == "repeat":
            data = data[:at] + data[at : at + length] * (2 + value % 50) + data[at:]
        elif what == "insert":
            data = data[:at] + value.to_bytes(4, "big") + data[at:]
        elif what == "number":  # a size, a count or an offset, near the start, in either order
            at = where % 64
            order = "big" if value % 2 else "little"
            data = data[:at] + value.to_bytes(4, order) + data[at + 4 :]  # type: ignore[arg-type]
        else:
            data = data[:at] + PICTURES[value % len(PICTURES)][at:]
    return data


class Client:
    """A keep-alive connection to a server, reopened when the server closes it."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=60)

    def send(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        for again in (True, False):
            try:
                self._connection.request("POST", "/invocations", body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (ConnectionError, HTTPException):
                # The server closes a connection after it refuses a request; a dead one fails twice.
                self._connection.close()
                if not again:
                    raise
        raise AssertionError

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server; in the end its worker must be the same, no larger, and predict correctly."""
    base = tmp_path_factory.mktemp("ml")
    write_artifact(base / "model")
    with serving(base) as server:
        server.wait_for("READY")
        for one in PICTURES:
            assert server.invoke(one)[0] == 200
        worker = psutil.Process(server.worker())
        before = worker.memory_info().rss
        yield server
        assert server.worker() == worker.pid, server.log.read_text()
        assert worker.memory_info().rss < before + GROWTH
        assert "READY" in server.ask("GET", "/ping")[1]
        status, text = server.invoke(picture())
        assert (status, json.loads(text)["predictions"][0]["label"]) == (200, "red")
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def answers(server: Server) -> Iterator[Callable[..., int]]:
    """Send a request and return its status: 2xx or 4xx; an error is one line of JSON."""
    client = Client(server)

    def send(body: bytes, content_type: str, **more: str) -> int:
        headers = {"Content-Type": content_type} | {k.replace("_", "-"): v for k, v in more.items()}
        status, data = client.send(body, headers)
        assert 200 <= status < 300 or 400 <= status < 500, (status, data)
        if status >= 400:
            message = json.loads(data)["error"]
            assert message
            assert "\n" not in message
        return status

    yield send
    client.close()


@cases(6000)
@given(which=st.integers(0, len(PICTURES) - 1), damage=DAMAGE)
def test_pictures(answers: Callable[..., int], which: int, damage: Damage) -> None:
    answers(damaged(PICTURES[which], damage), "image/jpeg" if which % 2 else "application/x-image")


@cases(1000)
@given(damage=DAMAGE, charset=st.sampled_from(["", "; charset=utf-16", "; charset=nonsense"]))
def test_documents(answers: Callable[..., int], damage: Damage, charset: str) -> None:
    answers(damaged(DOCUMENT, damage), f"application/json{charset}")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "instances", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@cases(600)
@given(value=VALUES, wrapped=st.booleans())
def test_documents_of_other_shapes(
    answers: Callable[..., int], value: object, wrapped: bool
) -> None:
    document = {"instances": value} if wrapped else value
    answers(json.dumps(document).encode(), "application/json")


@cases(900)
@given(damage=DAMAGE)
def test_arrays(answers: Callable[..., int], damage: Damage) -> None:
    answers(damaged(array(), damage), "application/x-npy")


@cases(900)
@given(damage=DAMAGE, boundary=st.sampled_from(["x", "y", '"', ""]))
def test_forms(answers: Callable[..., int], damage: Damage, boundary: str) -> None:
    answers(damaged(FORM, damage), f"multipart/form-data; boundary={boundary}")


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40) | st.sampled_from(
    ["application/json", "image/png", "*/*;q=", "top_k=", "explain=true", "gzip", "text/csv"]
)


@cases(600)
@given(
    content_type=WORDS,
    accept=WORDS,
    encoding=WORDS,
    attributes=WORDS,
    body=st.sampled_from([picture(), DOCUMENT, FORM, array(), b""]),
)
def test_headers(
    answers: Callable[..., int],
    content_type: str,
    accept: str,
    encoding: str,
    attributes: str,
    body: bytes,
) -> None:
    answers(
        body,
        content_type,
        Accept=accept,
        Content_Encoding=encoding,
        X_Amzn_SageMaker_Custom_Attributes=attributes,
    )


def test_the_undamaged_requests_are_good(answers: Callable[..., int]) -> None:
    statuses = [answers(each, "application/x-image") for each in PICTURES]
    statuses += [answers(DOCUMENT, "application/json"), answers(array(), "application/x-npy")]
    statuses += [answers(FORM, "multipart/form-data; boundary=x")]
    assert set(statuses) == {200}

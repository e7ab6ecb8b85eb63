"""Randomly changed requests: each gets a response, and none of them is a 5xx."""

import base64
import io
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from tests.unit.serve.artifacts import CROP, picture

EACH = 60
"""Requests of each kind; all together take some seconds."""


def npy(array: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


B64 = base64.b64encode(picture()).decode()
PART = b'Content-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
SEEDS = [
    ("image/png", picture()),
    ("image/jpeg", picture(kind="JPEG")),
    ("image/bmp", picture(kind="BMP")),
    ("image/webp", picture(kind="WEBP")),
    ("image/gif", picture(kind="GIF")),
    ("image/tiff", picture(kind="TIFF")),
    ("application/json", json.dumps({"instances": [{"b64": B64}] * 2}).encode()),
    ("application/json", json.dumps({"instances": [{"b64": f"data:x;base64,{B64}"}]}).encode()),
    ("application/x-npy", npy(np.zeros((2, CROP, CROP, 3), np.uint8))),
    ("application/x-npy", npy(np.zeros((1, 3, CROP, CROP), np.float32))),
    ("multipart/form-data; boundary=xx", b"--xx\r\n" + PART + picture() + b"\r\n--xx--\r\n"),
    ("binary/octet-stream", picture()),
    ("", picture(kind="JPEG")),
]
WORDS = [
    b"{",
    b"}",
    b"[",
    b"]" * 9,
    b'"',
    b",",
    b":",
    b"\\",
    b"null",
    b"NaN",
    b"1e999",
    b"-",
    b"\r\n",
    b"--xx",
    b"\0" * 9,
    b"\xff" * 9,
    b"{" * 2000,
    b"[" * 2000,
    b'{"a":' * 500,
    b"\x93NUMPY",
    b"(-1,",
    b"True",
    b"99999999999999999999",
    b"0x" + b"f" * 500,
    b"'|O'",
    b"b64",
    b"instances",
    b"=",
    b"data:,",
    b"%",
    b"Content-Disposition: form-data\r\n\r\n",
    b"\xef\xbb\xbf",
    b"\xd8\xff",
    b"IHDR",
    b"\xff\xd8\xff\xc3",
]
TYPES = [
    "application/json; charset=utf-16",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary="é"',
    "application/x-www-form-urlencoded",
    "text/plain",
    ";",
    "/",
    "image/",
    "IMAGE/PNG",
    "application/json;" + "a=b;" * 500,
    "a" * 5000,
    '"',
    "image/png, image/png",
    "multipart/form-data; boundary=xx; boundary*0=a; boundary*1=b",
    "application/x-npy; =",
    "\xff",
]
HEADERS = {
    "Accept": [
        "*/*;q=.2",
        "*",
        "a/b",
        ";",
        ",,,",
        '"',
        "*/*;q=nan",
        "a" * 5000,
        "text/csv;q=1e9",
        "\xff",
    ],
    "Content-Length": ["0", "5", "999999999999", "-1", "9" * 5000, "1e3", "\xb2", "+5", ""],
    "Content-Encoding": ["gzip", "deflate", "identity", "br, gzip", "\xff"],
    "Transfer-Encoding": ["chunked", "gzip, chunked", "identity", "x"],
    "X-Amzn-SageMaker-Custom-Attributes": [
        "top_k=0",
        "top_k=9",
        "top_k=\xb2",
        "a" * 2000,
        "top_k=1e9",
        "\x7f",
    ],
    "Host": ["", "a b", "[::", "x:99999", "\xff"],
    "Expect": ["100-continue"],
    "Cookie": ["\xff=;;"],
}
PATHS = [
    "/ping",
    "/",
    "//",
    "/invocations/",
    "/invocations?a=%ff",
    "/%00",
    "/%ff",
    "/models",
    "/ï",
    "/..%2f",
]
METHODS = ["GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "INVENTED"]


def change(body: bytes, rng: random.Random) -> bytes:
    """Make up to four edits anywhere: bytes flipped, removed, doubled or replaced by a word."""
    data = bytearray(body)
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(0, len(data))
        to = min(len(data), at + rng.choice((1, 1, 2, 8, 64, 4096)))
        edits: list[Callable[[], bytes]] = [
            lambda to=to, at=at: rng.randbytes(to - at),  # type: ignore[misc]
            lambda: b"",
            lambda at=at, to=to: bytes(data[at:to]) * rng.randint(2, 9),  # type: ignore[misc]
            lambda: rng.choice(WORDS),
            lambda at=at, to=to: bytes(b ^ (1 << rng.randrange(8)) for b in data[at:to]),  # type: ignore[misc]
        ]
        data[at:to] = rng.choice(edits)()
    return bytes(data)


@pytest.mark.parametrize("at", range(len(SEEDS)), ids=lambda at: f"{at}-{SEEDS[at][0][:20]}")
def test_a_changed_request_is_answered_and_never_by_a_5xx(client: FlaskClient, at: int) -> None:
    rng = random.Random(at)  # noqa: S311
    content_type, seed = SEEDS[at]
    for number in range(EACH):
        body = change(seed, rng)
        headers = {}
        if rng.random() < 0.4:
            for name in rng.sample(list(HEADERS), rng.randint(1, 3)):
                headers[name] = rng.choice(HEADERS[name])
        said = rng.choice(TYPES) if rng.random() < 0.2 else content_type
        path = rng.choice(PATHS) if rng.random() < 0.05 else "/invocations"
        method = rng.choice(METHODS) if rng.random() < 0.05 else "POST"
        environ: dict[str, Any] = {
            f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()
        }
        environ |= {"CONTENT_TYPE": said, "wsgi.input": io.BytesIO(body)}
        environ["CONTENT_LENGTH"] = headers.get("Content-Length", str(len(body)))
        environ["wsgi.input_terminated"] = True
        response = client.open(path, method=method, environ_overrides=environ)
        what = f"request {number}: {method} {path} {said!r} {headers} {body[:80]!r}"
        assert response.status_code < 500, f"{what}: {response.text}"
        if response.status_code >= 400 and method != "HEAD":
            error = response.get_json()["error"]
            assert error, what
            assert "\n" not in error, what
            assert len(error) < 1500, what
    assert client.get("/ping").status_code == 200

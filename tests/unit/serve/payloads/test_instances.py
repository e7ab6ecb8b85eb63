import base64
import json
import tracemalloc
from urllib.parse import quote

import pytest

from container.artifact import Artifact
from serve.errors import BadRequest
from serve.payloads.instances import from_base64, read_json
from tests.unit.serve.artifacts import picture

DATA = bytes(range(256)) * 4 + b"\xfb\xff"
PLAIN = base64.b64encode(DATA).decode()
WRAPPED = base64.encodebytes(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("="),
        WRAPPED,
        WRAPPED.replace("\n", "\r\n"),
        WRAPPED.replace("\n", "\n    "),
        f"  {PLAIN}\n",
        URL_SAFE,
        URL_SAFE.rstrip("="),
        f"data:image/png;base64,{PLAIN}",
        f"data:;base64,{URL_SAFE}",
        f"DATA:image/svg+xml;charset=utf-8;BASE64,{WRAPPED}",
        f"data:image/png;base64,{quote(PLAIN, safe='')}",
    ],
)
def test_every_common_form_of_base64_is_decoded(text: str) -> None:
    assert from_base64(text, "b64") == DATA


@pytest.mark.parametrize(
    "text",
    ["a", "ä", "%%%%", "ab=cd", "data:,hello", "data:image/png,abcd", "AA AA", "AAAA===A"],
)
def test_invalid_base64_is_reported(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^b64: found .* expected .*base64") as refused:
        from_base64(text, "b64")
    assert refused.value.status == 400


def test_other_keys_beside_b64_and_instances_are_ignored(artifact: Artifact) -> None:
    instance = {
        "b64": base64.b64encode(picture()).decode(),
        "name": "a.png",
        "id": [1, {"x": None}],
    }
    document = {"signature_name": "serving_default", "instances": [instance] * 2}
    images = read_json(json.dumps(document).encode(), artifact)
    assert len(list(images.pixels)) == images.count == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_json_in_every_unicode_encoding_is_read(artifact: Artifact, encoding: str) -> None:
    text = json.dumps({"ä": "“", "instances": [{"b64": base64.b64encode(picture()).decode()}]})
    assert read_json(text.encode(encoding), artifact).count == 1


SIZE = 8 * 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [' + b"{}," * (SIZE // 3) + b"{}]}",
        b'{"instances": [' + b'"",' * (SIZE // 3) + b'""]}',
        b'{"instances": [' + b"[0.5]," * (SIZE // 6) + b"[]]}",
        b'{"instances": ["' + b'\\"' * (SIZE // 2) + b'"]}',
        b"[" * SIZE,
        b'{"a":' * (SIZE // 5),
        b'"' * SIZE,
        ("{}," * (SIZE // 6)).encode("utf-16"),
    ],
    ids=["objects", "strings", "numbers", "escapes", "lists", "nested", "quotes", "utf-16"],
)
def test_a_document_of_many_small_values_is_refused_before_parsing(
    artifact: Artifact, body: bytes
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match="found more than") as refused:
            read_json(body, artifact)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413
    assert peak < 2 * SIZE


def test_escaped_quotes_and_backslashes_are_parsed(artifact: Artifact) -> None:
    image = base64.b64encode(picture()).decode()
    for path in ("\\", '"', '\\"', "\\\\", 'C:\\x\\"y"\\'):
        body = json.dumps({"path": path, "instances": [{"b64": image}]}).encode()
        assert read_json(body, artifact).count == 1


def test_a_large_image_and_much_white_space_are_accepted(artifact: Artifact) -> None:
    image = base64.b64encode(picture(kind="PNG") + bytes(4 * 1024 * 1024)).decode()
    text = json.dumps({"instances": [{"b64": image}]}).replace(" ", " " * 500_000)
    assert read_json(text.encode(), artifact).count == 1

import io
import os

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage

from container.artifact import Artifact
from serve.errors import BadRequest
from serve.payloads.codec import read_images
from tests.unit.serve.artifacts import picture

BOUNDARY = "form 1".replace(" ", "-")
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(data: bytes, disposition: str) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
RED = part(picture("red"), 'name="image"; filename="a.png"')
BLUE = part(picture("blue"), 'name="other"; filename="b.png"')
TEXT = part(b"3", 'name="top_k"')


def colours(body: bytes, artifact: Artifact, content_type: str = TYPE) -> list[list[int]]:
    return [image[0, 0].tolist() for image in read_images(content_type, body, artifact).pixels]


def test_files_become_images_in_order(artifact: Artifact) -> None:
    red, blue = [255, 0, 0], [0, 0, 255]
    assert colours(RED + END, artifact) == [red]
    assert colours(RED + TEXT + BLUE + RED + END, artifact) == [red, blue, red]


def test_a_form_of_werkzeugs_test_client_is_read(client: FlaskClient) -> None:
    files = [FileStorage(io.BytesIO(picture(name)), f"{name}.png") for name in ("green", "red")]
    response = client.post("/invocations", data={"images": files})
    assert response.status_code == 200
    assert [p["label"] for p in response.get_json()["predictions"]] == ["green", "red"]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "", "application/octet-stream"])
def test_a_boundary_missing_from_the_header_is_read_from_the_body(
    artifact: Artifact, content_type: str
) -> None:
    assert len(colours(RED + BLUE + END, artifact, content_type)) == 2


def test_images_full_of_line_ends_are_accepted(artifact: Artifact) -> None:
    for tail in (b"\r\n" * 200_000, b"\r\n--form" * 50_000, os.urandom(2_000_000)):
        body = part(picture("red") + tail, 'name="f"; filename="f"') + END
        assert colours(body, artifact) == [[255, 0, 0]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        END,
        TEXT + END,
        RED,
        RED[:60],
        RED[:-20] + END[:5],
        part(picture(), 'name="x"').replace(b"form-data", b"") + END,
        f"--{BOUNDARY}\r\nContent-Type: image/png\r\n\r\n".encode() + picture() + b"\r\n" + END,
        part(b"not an image", 'name="f"; filename="f.txt"') + END,
        part(picture(), "name=f; filename*=utf-8''%ff%0a").replace(b"\x89PNG", b"") + END,
    ],
)
def test_a_form_without_images_is_refused(artifact: Artifact, body: bytes) -> None:
    with pytest.raises(BadRequest, match="expected") as refused:
        colours(body, artifact)
    assert refused.value.status == 400
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("body", [RED * 257 + END, TEXT * 2000 + END, TEXT[:-3] + bytes(2_000_000)])
def test_a_form_above_the_limits_is_refused(artifact: Artifact, body: bytes) -> None:
    with pytest.raises(BadRequest, match="found .* expected") as refused:
        colours(body, artifact)
    assert refused.value.status == 413

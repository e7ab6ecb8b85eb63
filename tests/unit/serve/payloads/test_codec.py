import base64
import csv
import io
import json
import pickle
import zlib
from typing import Any

import numpy as np
import pytest

from container.artifact import Artifact
from serve.errors import BadRequest
from serve.payloads.codec import (
    Prediction,
    are_attributes,
    check_attributes,
    read_images,
    read_top_k,
    write_predictions,
)
from serve.payloads.images import MAX_INSTANCES, Pixels
from tests.unit.serve.artifacts import CLASSES, CROP, picture


def pixels(content_type: str, body: bytes, artifact: Artifact) -> list[Pixels]:
    images = read_images(content_type, body, artifact)
    decoded = list(images.pixels)
    assert images.count == len(decoded)
    return decoded


def refused(content_type: str, body: bytes, artifact: Artifact) -> BadRequest:
    with pytest.raises(BadRequest) as error:
        pixels(content_type, body, artifact)
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)
    return error.value


def npy(array: Any, **options: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, array, **options)
    return data.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def instances(*images: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": b64(image)} for image in images]}).encode()


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "image/x-x", "application/x-image", "application/octet-stream"],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_an_encoded_image_is_decoded_like_a_file(
    artifact: Artifact, content_type: str, kind: str
) -> None:
    data = picture("green", kind=kind)
    (image,) = pixels(content_type, data, artifact)
    np.testing.assert_array_equal(image, artifact.geometry.load(data))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "empty"),
        (b"hello", "not an accepted image"),
        (picture()[:60], "cut short"),
        (picture(kind="JPEG")[:-40], "cut short or damaged"),
        (b"<svg/>", "not an accepted image: found HTML, XML or SVG text"),
    ],
)
def test_a_body_that_is_not_an_image_is_described(
    artifact: Artifact, body: bytes, found: str
) -> None:
    with pytest.raises(BadRequest, match=f"request body: {found}") as error:
        pixels("image/png", body, artifact)
    assert error.value.status == 400


def test_an_image_of_too_many_pixels_is_not_decoded(artifact: Artifact) -> None:
    bomb = bytearray(picture())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    assert "60000 x 60000" in str(refused("image/png", bytes(bomb), artifact))


def test_json_instances_are_images_in_order(artifact: Artifact) -> None:
    first, second = pixels("application/json", instances(picture("red"), picture("blue")), artifact)
    assert first[0, 0].tolist() == [255, 0, 0]
    assert second[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"9" * 100_000, "not JSON"),
        (b"[]", "an empty list"),
        (b'"x"', "a string"),
        (b"null", "null"),
        (b"NaN", "a number"),
        (b"{}", "keys"),
        (b'{"inputs": []}', "inputs"),
        (b'{"instances": []}', "instances: found an empty list"),
        (b'{"instances": {"b64": ""}}', "instances: found an object"),
        (b'{"instances": [{"data": "", "x": 1}]}', "instances.0.: found keys"),
        (b'{"instances": ["abc"]}', "instances.0.: found a string"),
        (b'{"instances": [[0.5, 0.5]]}', "instances.0.: found a list"),
        (b'{"instances": [{"b64": 5}]}', "instances.0..b64: found a number"),
        (b'{"instances": [{"b64": true}]}', "instances.0..b64: found a boolean"),
        (b'{"instances": [{"b64": "a"}]}', "instances.0..b64: found"),
        ('{"instances": [{"b64": "ä"}]}'.encode(), "instances.0..b64: found"),
        (b'{"instances": [{"b64": "data:image/png,AAAA"}]}', "found a data URL that is not"),
    ],
)
def test_json_of_another_shape_is_described(artifact: Artifact, body: bytes, found: str) -> None:
    error = refused("application/json", body, artifact)
    assert error.status == 400
    with pytest.raises(BadRequest, match=found):
        raise error


def test_a_bad_instance_is_named_by_its_index(artifact: Artifact) -> None:
    error = refused("application/json", instances(picture(), picture(), b"junk"), artifact)
    assert str(error).startswith("instances[2]: not an accepted image")


def test_too_many_instances_are_refused_before_any_is_decoded(artifact: Artifact) -> None:
    error = refused("application/json", instances(*[b""] * 10_000), artifact)
    assert error.status == 413
    assert str(error) == "instances: found 10,000, expected at most 256 in one request"
    many = np.zeros((MAX_INSTANCES + 1, CROP, CROP, 3), np.uint8)
    assert refused("application/x-npy", npy(many), artifact).status == 413


def test_npy_pixels_are_not_changed(artifact: Artifact) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (5, CROP, CROP, 3), np.uint8)
    np.testing.assert_array_equal(pixels("application/x-npy", npy(batch), artifact), batch)
    (one,) = pixels("application/x-npy", npy(batch[0]), artifact)
    np.testing.assert_array_equal(one, batch[0])


def test_npy_in_fortran_order_is_the_same_array(artifact: Artifact) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (5, CROP, CROP, 3), np.uint8)
    body = npy(np.asfortranarray(batch))
    np.testing.assert_array_equal(pixels("application/x-npy", body, artifact), batch)


def test_normalised_npy_is_converted_back_to_pixels(artifact: Artifact) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (3, CROP, CROP, 3), np.uint8)
    mean, std = np.array(artifact.mean), np.array(artifact.std)
    normalised = ((batch / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    decoded = pixels("application/x-npy", npy(normalised), artifact)
    assert decoded[0].dtype == np.float32
    np.testing.assert_allclose(decoded, batch, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 255.0])
def test_values_that_were_never_normalised_are_refused(artifact: Artifact, value: float) -> None:
    batch = np.zeros((2, 3, CROP, CROP), np.float32)
    batch[1, 2, 3, 4] = value
    error = refused("application/x-npy", npy(batch), artifact)
    assert error.status == 400
    assert "image 1: found values that stand for pixels" in str(error)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, CROP, CROP, 4), np.uint8), "uint8 (2, 8, 8, 4)"),
        (np.zeros((2, 3, CROP, CROP), np.uint8), "uint8 (2, 3, 8, 8)"),
        (np.zeros((CROP, CROP), np.uint8), "uint8 (8, 8)"),
        (np.zeros((2, CROP, CROP, 3), np.float32), "float32 (2, 8, 8, 3)"),
        (np.zeros((3, CROP, CROP), np.float32), "float32 (3, 8, 8)"),
        (np.zeros((2, 3, CROP, CROP), np.float64), "float64 (2, 3, 8, 8)"),
        (np.zeros((0, CROP, CROP, 3), np.uint8), "no images"),
        (np.uint8(1), "uint8 ()"),
        (np.zeros(3, [("a", np.uint8)]), "[('a', 'u1')] (3,)"),
    ],
)
def test_npy_of_another_shape_or_type_is_described(
    artifact: Artifact, array: Any, found: str
) -> None:
    assert f"found {found}" in str(refused("application/x-npy", npy(array), artifact))


class Trap:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def test_pickled_npy_is_never_loaded(artifact: Artifact) -> None:
    body = npy(np.array([Trap()], dtype=object), allow_pickle=True)
    assert "pickled objects" in str(refused("application/x-npy", body, artifact))
    bare = refused("application/x-npy", pickle.dumps(Trap()), artifact)
    assert "npy array: found" in str(bare)


def test_an_npy_header_with_a_false_size_allocates_nothing(artifact: Artifact) -> None:
    honest = npy(np.zeros((10, CROP, CROP, 3), np.uint8))
    lying = honest.replace(b"(10,", b"(99,")
    assert "bytes of data, expected" in str(refused("application/x-npy", lying, artifact))
    assert "bytes of data" in str(refused("application/x-npy", honest[:-1], artifact))
    huge = honest.replace(b"(10, 8, 8, 3), }    ", b"(10**9, 8, 8, 3), }")
    assert refused("application/x-npy", huge, artifact).status == 400


@pytest.mark.parametrize(
    "body", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00" + bytes(90), b"PK\x03\x04" + bytes(90)]
)
def test_a_body_that_is_not_npy_is_refused(artifact: Artifact, body: bytes) -> None:
    assert refused("application/x-npy", body, artifact).status == 400


@pytest.mark.parametrize("content_type", ["text/csv", "application/pdf", "imagejpeg", "text/plain"])
def test_other_content_types_are_refused(artifact: Artifact, content_type: str) -> None:
    error = refused(content_type, b"a,b,c", artifact)
    assert error.status == 415
    assert "application/x-npy" in str(error)
    assert "expected image/png" in str(refused(content_type, picture(), artifact))


UNSAID = [
    "",
    "application/x-www-form-urlencoded",
    "binary/octet-stream",
    "Binary/Octet-Stream; x=1",
    "application/octet-stream",
]


@pytest.mark.parametrize("content_type", UNSAID)
def test_untyped_bodies_are_recognised_by_their_bytes(
    artifact: Artifact, content_type: str
) -> None:
    batch = np.zeros((2, CROP, CROP, 3), np.uint8)
    for body in (picture(), picture(kind="JPEG"), b"\n" + instances(picture()), npy(batch[0])):
        assert len(pixels(content_type, body, artifact)) == 1
    assert len(pixels(content_type, npy(batch), artifact)) == 2


@pytest.mark.parametrize("content_type", UNSAID[:2])
@pytest.mark.parametrize("body", [b"b64=abc&x=1", b"hello", b"\x00\x01\x02", b"PK\x03\x04abc"])
def test_unrecognised_bodies_list_the_content_types(
    artifact: Artifact, content_type: str, body: bytes
) -> None:
    error = refused(content_type, body, artifact)
    assert error.status == 415
    assert "Content-Type: found" in str(error)
    assert "image/jpeg" in str(error)


def test_an_image_corrupted_by_curl_is_explained(artifact: Artifact) -> None:
    for kind in ("PNG", "JPEG"):
        body = picture(kind=kind).replace(b"\r", b"").replace(b"\n", b"")[:-30]
        with pytest.raises(BadRequest, match="--data-binary"):
            pixels("application/x-www-form-urlencoded", body, artifact)


@pytest.mark.parametrize(
    ("content_type", "body", "header"),
    [
        ("image/jpeg", instances(picture()), "application/json"),
        ("image/png", npy(np.zeros((2, CROP, CROP, 3), np.uint8)), "application/x-npy"),
        ("application/json", picture(kind="JPEG"), "image/jpeg"),
        ("application/x-npy", picture(), "image/png"),
        ("application/x-npy", instances(picture()), "application/json"),
        ("multipart/form-data", picture(), "image/png"),
        ("image/png", b'--x\r\nContent-Disposition: form-data; name="f"', "multipart/form-data"),
    ],
)
def test_a_wrong_content_type_suggests_the_right_one(
    artifact: Artifact, content_type: str, body: bytes, header: str
) -> None:
    error = refused(content_type, body, artifact)
    assert error.status == 400
    assert f"send it with Content-Type: {header}" in str(error)


def test_npy_headers_of_odd_shapes_are_refused(artifact: Artifact) -> None:
    shapes = (
        "(-1, 8, 8, 3)", "(0, 8, 8, 3)", "(0x" + "f" * 5000 + ", 8, 8, 3)", "(10**9, 8, 8, 3)",
        "(9" + "0" * 4000 + ", 8, 8, 3)", "(18446744073709551616, 8, 8, 3)", "()", "(8,)",
        "(True, 8, 8, 3)", "(2, 8, 8, -3)", "(8, 8, 0x" + "f" * 4000 + ")", "(1.5, 8, 8, 3)",
        "(" + "1, " * 100 + ")", "(" + "(" * 90 + ")" * 91, "None", "[1, 8, 8, 3]", "'8883'",
    )  # fmt: skip
    for shape in shapes:
        for kind in (
            "|u1",
            "<f4",
            ">f4",
            "|O",
            "<U3",
            "V8",
            "|u0",
            "[('a\\n', 'u1')]",
            "('u1', 2)",
        ):
            for order in ("True", "False"):
                descr = kind if kind[0] in "[(" else f"'{kind}'"
                header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"
                body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
                assert refused("application/x-npy", body + bytes(64), artifact).status < 500


ROWS = [
    Prediction(np.array([0.2, 0.7, 0.1], np.float32)),
    Prediction(np.array([0.25, 0.25, 0.5], np.float32)),
]


def test_json_predictions_are_best_first_and_exact() -> None:
    text = write_predictions("application/json", ROWS, CLASSES, top_k=2)
    assert json.loads(text) == {
        "predictions": [
            {
                "label": "green",
                "probability": 0.7,
                "top": [
                    {"label": "green", "probability": 0.7},
                    {"label": "red", "probability": 0.2},
                ],
            },
            {
                "label": CLASSES[2],
                "probability": 0.5,
                "top": [
                    {"label": CLASSES[2], "probability": 0.5},
                    {"label": "red", "probability": 0.25},
                ],
            },
        ]
    }


def test_a_tiny_probability_is_written_exactly() -> None:
    row = np.array([1.2345678e-30, 1, 0], np.float32)
    text = write_predictions("application/json", [Prediction(row)], CLASSES, top_k=3)
    found = {top["label"]: top["probability"] for top in json.loads(text)["predictions"][0]["top"]}
    assert np.float32(found["red"]) == row[0]


def test_json_lines_has_one_prediction_a_line() -> None:
    whole = json.loads(write_predictions("application/json", ROWS, CLASSES, 5))["predictions"]
    lines = write_predictions("application/jsonlines", ROWS, CLASSES, 5)
    assert [json.loads(line) for line in lines.splitlines()] == whole


def test_csv_labels_are_quoted_where_necessary() -> None:
    text = write_predictions("text/csv", ROWS, CLASSES, top_k=5)
    assert text.splitlines()[1] == '"blue, ""deep""",0.5,red,0.25,green,0.25'
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["green", "0.7", "red", "0.2", CLASSES[2], "0.1"]


@pytest.mark.parametrize(
    ("attributes", "top_k"),
    [
        ("", 5),
        ("top_k=3", 3),
        ("trace=9f; top_k=12,user=me", 12),
        ("top_k=999999999", 999_999_999),
        ("xtop_k=2", 5),
        ("top_k", 5),
    ],
)
def test_top_k_is_read_from_the_custom_attributes(attributes: str, top_k: int) -> None:
    assert read_top_k(attributes) == top_k


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5", "3x"])
def test_a_top_k_that_is_not_a_number_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="whole number from 1"):
        read_top_k(f"top_k={value}")


@pytest.mark.parametrize("value", ["a" * 1025, "tab\there", "naïve", "\x7f"])
def test_attributes_that_cannot_be_echoed_are_refused(value: str) -> None:
    assert not are_attributes(value)
    with pytest.raises(BadRequest, match="printable ASCII"):
        check_attributes(value)


def test_attributes_of_the_maximum_length_are_accepted() -> None:
    assert check_attributes("a" * 1024) == "a" * 1024

"""Request bodies to pixels, probabilities to response bodies. Knows nothing of HTTP or engines.

    images = read_images("image/jpeg", body, artifact)        # Images: a count, then the pixels
    text = write_predictions("text/csv", probabilities, artifact.classes, top_k=5)

What is accepted:

    image/*, application/x-image,
    application/octet-stream            one encoded image
    application/json                    {"instances": [{"b64": "<base64 of an image>"}, ...]}
    application/x-npy                   uint8 (N, crop, crop, 3) or (crop, crop, 3) RGB pixels, or
                                        float32 (N, 3, crop, crop) normalised with the model's
                                        mean and std
"""

import base64
import binascii
import csv
import io
import json
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from container.artifact import Artifact
from container.errors import BadImage
from serve.batcher import Pixels, Probabilities

_npy: Any = np.lib.format  # These functions of numpy have no types.

MAX_INSTANCES = 256
"""Most images in one request: at 40 ms an image this is 10 s of the 60 s an invocation may take."""

DEFAULT_TOP_K = 5
ATTRIBUTES_LIMIT = 1024
"""Longest X-Amzn-SageMaker-Custom-Attributes value, by SageMaker's API."""

REQUEST_TYPES = (
    "image/*, application/x-image, application/octet-stream, application/json or application/x-npy"
)
RESPONSE_TYPES = ("application/json", "text/csv", "application/jsonlines")


class BadRequest(Exception):
    """The request cannot be answered; one line for the client and the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Images:
    """How many images a request holds, and their pixels one by one, decoded when asked for.

    Each is (crop, crop, 3), uint8 or float32 in 0..255. Decoding raises BadRequest.
    """

    count: int
    pixels: Iterator[Pixels]


def is_request_type(content_type: str) -> bool:
    """Whether a bare, lower-case content type is one that `read_images` takes."""
    return content_type.startswith("image/") or content_type in {
        "application/octet-stream",
        "application/x-image",
        "application/json",
        "application/x-npy",
    }


def read_images(content_type: str, body: bytes, artifact: Artifact) -> Images:
    """The images in a body; `content_type` without parameters, in lower case.

    Raises BadRequest: 415 for another content type, 413 for too many instances, else 400.
    """
    if content_type == "application/json":
        return _read_json(body, artifact)
    if content_type == "application/x-npy":
        return _read_npy(body, artifact)
    if not is_request_type(content_type):
        raise BadRequest(
            f"Content-Type: found {content_type or 'none'}, expected {REQUEST_TYPES}", 415
        )
    return Images(1, (_decode(body, "request body", artifact) for _ in range(1)))


def write_predictions(
    media_type: str, probabilities: Sequence[Probabilities], classes: Sequence[str], top_k: int
) -> str:
    """The response body for (classes,) probabilities of each instance.

    JSON: `{"predictions": [{"label", "probability", "top": [{"label", "probability"}, ...]}]}`,
    JSON Lines: one such prediction a line, CSV: `label,probability,label,probability,...` a line,
    best first in all three.
    """
    best = [_best(row, classes, top_k) for row in probabilities]
    if media_type == "text/csv":
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerows([cell for pair in pairs for cell in pair] for pairs in best)
        return lines.getvalue()
    predictions = [
        {
            "label": pairs[0][0],
            "probability": pairs[0][1],
            "top": [{"label": label, "probability": value} for label, value in pairs],
        }
        for pairs in best
    ]
    if media_type == "application/jsonlines":
        return "".join(json.dumps(prediction, allow_nan=False) + "\n" for prediction in predictions)
    return json.dumps({"predictions": predictions}, allow_nan=False) + "\n"


def are_attributes(value: str) -> bool:
    """Whether a custom attributes header may be echoed."""
    return len(value) <= ATTRIBUTES_LIMIT and value.isascii() and value.isprintable()


def check_attributes(value: str) -> str:
    """A custom attributes header as it may be echoed. Raises BadRequest."""
    if not are_attributes(value):
        raise BadRequest(
            f"X-Amzn-SageMaker-Custom-Attributes: found {len(value)} characters, "
            f"expected at most {ATTRIBUTES_LIMIT}, all printable ASCII"
        )
    return value


def read_top_k(attributes: str) -> int:
    """The `top_k=` among attributes set apart by commas, semicolons or blanks; 5 without one.

    Raises BadRequest unless it is a whole number from 1. More than there are classes is all.
    """
    for word in re.split(r"[,;\s]+", attributes):
        name, equals, value = word.partition("=")
        if name != "top_k" or not equals:
            continue
        if not (value.isdigit() and int(value[:9]) >= 1):
            raise BadRequest(
                f"X-Amzn-SageMaker-Custom-Attributes: found {word}, "
                "expected top_k to be a whole number from 1"
            )
        return int(value[:9])
    return DEFAULT_TOP_K


def _best(
    probabilities: Probabilities, classes: Sequence[str], top_k: int
) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    # Through str, a float32 keeps its own few digits instead of a float64's seventeen.
    return [(classes[index], float(str(probabilities[index]))) for index in order]


def _decode(data: bytes, name: str, artifact: Artifact) -> Pixels:
    try:
        return artifact.geometry.load(data, name)
    except BadImage as error:
        raise BadRequest(str(error)) from None


def _read_json(body: bytes, artifact: Artifact) -> Images:
    expected = 'expected {"instances": [{"b64": "<base64 of an image>"}, ...]}'
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else _line(str(error))
        raise BadRequest(f"request body: not JSON ({reason}), {expected}") from None
    if not isinstance(document, dict) or "instances" not in document:
        found = f"keys {_some(document)}" if isinstance(document, dict) else _kind(document)
        raise BadRequest(f"request body: found {found}, {expected}")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise BadRequest(f"instances: found {_kind(instances)}, {expected}")
    _check_count(len(instances))
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict) or set(instance) != {"b64"}:
            found = f"keys {_some(instance)}" if isinstance(instance, dict) else _kind(instance)
            raise BadRequest(f'instances[{index}]: found {found}, expected {{"b64": ...}} alone')
        if not isinstance(instance["b64"], str):
            raise BadRequest(
                f"instances[{index}].b64: found {_kind(instance['b64'])}, expected a base64 string"
            )
    return Images(
        len(instances),
        (
            _decode(_from_base64(instance["b64"], index), f"instances[{index}]", artifact)
            for index, instance in enumerate(instances)
        ),
    )


def _from_base64(text: str, index: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        found = "a data: URL" if text.startswith("data:") else _line(str(error))
        raise BadRequest(
            f"instances[{index}].b64: found {found}, expected plain base64 without line breaks"
        ) from None


def _read_npy(body: bytes, artifact: Artifact) -> Images:
    crop = artifact.geometry.crop
    expected = (
        f"expected uint8 (N, {crop}, {crop}, 3) or ({crop}, {crop}, 3) pixels, "
        f"or float32 (N, 3, {crop}, {crop}) normalised"
    )
    shape, dtype, fortran, start = _npy_header(body, expected)
    wide = (crop, crop, 3)
    pixels = dtype == np.uint8 and (shape == wide or shape[1:] == wide)
    normalised = dtype == np.float32 and shape[1:] == (3, crop, crop)
    if not (pixels or normalised):
        raise BadRequest(f"npy array: found {dtype} {shape}, {expected}")
    if shape[0] == 0:
        raise BadRequest(f"npy array: found no images, {expected}")
    count = 1 if shape == wide else shape[0]
    _check_count(count)
    size = math.prod(shape) * dtype.itemsize
    if len(body) - start != size:
        raise BadRequest(
            f"npy array: found {len(body) - start} bytes of data, expected {size} for {shape}"
        )
    array = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    images = array.reshape(count, *shape[-3:])
    return Images(count, _denormalised(images, artifact) if normalised else iter(images))


def _npy_header(
    body: bytes, expected: str
) -> tuple[tuple[int, ...], np.dtype[np.generic], bool, int]:
    """Shape, dtype, Fortran order and where the data starts.

    Read apart from the data, because np.load allocates whatever the header asks for.
    """
    stream = io.BytesIO(body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            version = _npy.read_magic(stream)
            read = {(1, 0): _npy.read_array_header_1_0, (2, 0): _npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream)
    except KeyError:
        raise BadRequest(
            "npy array: found an unknown format version, expected 1.0 or 2.0"
        ) from None
    # The header is a Python literal, and its parser raises whatever a malformed one trips over.
    except Exception as error:
        found = f"{len(body)} bytes" if body else "an empty body"
        reason = _line(str(error)).rstrip(".")
        raise BadRequest(f"npy array: found {found} ({reason}), {expected}") from None
    if dtype.hasobject:
        raise BadRequest(f"npy array: found pickled objects, which are never loaded, {expected}")
    return shape, dtype, fortran, stream.tell()


def _denormalised(
    images: npt.NDArray[np.float32], artifact: Artifact
) -> Iterator[npt.NDArray[np.float32]]:
    """Normalised (N, 3, H, W) back to RGB pixels 0..255 (H, W, 3), one by one."""
    scale = 255 * np.array(artifact.std, np.float32)
    shift = 255 * np.array(artifact.mean, np.float32)
    for index, image in enumerate(images):
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0)) * scale + shift
        low, high = float(pixels.min()), float(pixels.max())
        # Noise may leave 0..255, but a whole range beyond it was never normalised.
        if not (low >= -255 and high <= 510):
            raise BadRequest(
                f"npy array image {index}: found values that stand for pixels {low:.4g} to "
                f"{high:.4g}, expected about 0 to 255 after normalisation with mean "
                f"{list(artifact.mean)} and std {list(artifact.std)}"
            )
        yield pixels


def _check_count(count: int) -> None:
    if count > MAX_INSTANCES:
        raise BadRequest(
            f"instances: found {count:,}, expected at most {MAX_INSTANCES} in one request", 413
        )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    if value is None:
        return "null"
    if value == []:
        return "an empty list"
    return names.get(type(value), "a number")


def _some(keys: dict[str, object]) -> str:
    shown = [_line(key)[:40] for key in list(keys)[:5]]
    return f"{shown}{' and more' if len(keys) > 5 else ''}"


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]

"""Decodes request bodies to pixels and encodes probabilities as response bodies.

    images = read_images("image/jpeg", body, artifact)  # RequestImages: count and pixels
    text = write_predictions("text/csv", predictions, artifact.classes, top_k=5)

Accepted content types:

    image/*, application/x-image        one encoded image
    application/json                    {"instances": [{"b64": "<base64 of an image>"}, ...]}
    application/x-npy                   uint8 (N, crop, crop, 3) or (crop, crop, 3) RGB pixels, or
                                        float32 (N, 3, crop, crop) normalised with the model's
                                        mean and std
    multipart/form-data                 encoded images, each a file
    application/octet-stream, binary/octet-stream, application/x-www-form-urlencoded, none
                                        any of the first three, recognised by its first bytes
"""

import base64
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from werkzeug.http import parse_options_header

from container.artifact import Artifact
from container.images.decode import sniff
from serve.errors import BadRequest, one_line
from serve.payloads.images import Pixels, Probabilities, RequestImages, decode
from serve.payloads.instances import read_json
from serve.payloads.multipart import read_multipart
from serve.payloads.npy import MAGIC, read_npy

DEFAULT_TOP_K = 5
MOST_EXPLAINED = 8
"""Most images in a request for heat maps: without class activation each takes fifty predictions."""
ATTRIBUTES_LIMIT = 1024
"""Longest X-Amzn-SageMaker-Custom-Attributes value in SageMaker's API."""

REQUEST_TYPES = (
    "image/* (image/jpeg, image/png, ...), application/x-image, application/octet-stream, "
    "application/json, application/x-npy or multipart/form-data"
)

BINARY = frozenset(
    {
        "application/octet-stream",
        "application/binary",
        "application/x-binary",
        "binary/octet-stream",
    }
)
"""Generic binary types; the last is S3's default for objects."""

FORM = "application/x-www-form-urlencoded"
"""curl's default Content-Type."""

UNSPECIFIC = BINARY | {FORM, ""}
"""Types of bodies to recognise by their first bytes."""

CURL = "; with curl, --data-binary sends a file unchanged, but --data does not"

_IMAGE = "image/*"
_KINDS = {
    _IMAGE: "an image",
    "application/json": "JSON",
    "application/x-npy": "a NumPy array",
    "multipart/form-data": "form data",
}


def read_images(content_type: str, body: bytes, artifact: Artifact) -> RequestImages:
    """The images in a body; `content_type` is the header, with or without parameters.

    Raises BadRequest: 415 for another content type, 413 for too many instances, otherwise 400.
    """
    media, options = parse_options_header(content_type)
    media = media.lower()
    seen = _recognise(body)
    if media in UNSPECIFIC:
        declared, media = media, seen or media
    else:
        declared = media = _IMAGE if _is_image(media) else media
    if media in UNSPECIFIC:
        media = _IMAGE if media in BINARY or not body else media
    if media not in _KINDS:
        raise BadRequest(_unknown(content_type, body), 415)
    if seen and media != seen:
        raise BadRequest(
            f"request body: found {_KINDS[seen]}, expected {_KINDS[media]} by its Content-Type "
            f"{one_line(content_type)[:100]}; send it with Content-Type: {_header_for(seen, body)}"
        )
    if media == "application/json":
        return read_json(body, artifact)
    if media == "application/x-npy":
        return read_npy(body, artifact)
    if media == "multipart/form-data":
        return read_multipart(body, options, artifact)
    return RequestImages(1, _one(body, artifact, hint=CURL if declared == FORM else ""))


def _is_image(media: str) -> bool:
    return media.startswith("image/") or media == "application/x-image"


def _recognise(body: bytes) -> str | None:
    """The media type of a body, recognised by its first bytes."""
    if sniff(body):
        return _IMAGE
    if body.startswith(MAGIC):
        return "application/x-npy"
    start = body[:1024]
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "application/json"
    if start.startswith(b"--") and b"content-disposition:" in start.lower():
        return "multipart/form-data"
    return None


def _header_for(media: str, body: bytes) -> str:
    if media == _IMAGE:
        return f"image/{(sniff(body) or 'jpeg').lower().replace('jpeg 2000', 'jp2')}"
    return f"{media}; boundary=..." if media == "multipart/form-data" else media


def _unknown(content_type: str, body: bytes) -> str:
    found = one_line(content_type)[:100] or "none"
    seen = _recognise(body)
    if seen:
        return (
            f"Content-Type: found {found}, expected {_header_for(seen, body)} for a body that is "
            f"{_KINDS[seen]}"
        )
    hint = CURL if found.startswith(FORM) else ""
    return f"Content-Type: found {found}, expected {REQUEST_TYPES}{hint}"


def _one(body: bytes, artifact: Artifact, hint: str) -> Iterator[Pixels]:
    try:
        yield decode(body, "request body", artifact)
    except BadRequest as error:
        raise BadRequest(f"{error}{hint}", error.status) from None


@dataclass(frozen=True)
class Prediction:
    """The (classes,) probabilities of one image, and its heat map as a PNG if it was requested."""

    probabilities: Probabilities
    heat_map: bytes | None = None


def write_predictions(
    media_type: str, predictions: Sequence[Prediction], classes: Sequence[str], top_k: int
) -> str:
    """The response body for the predictions of a request's images.

    JSON: `{"predictions": [{"label", "probability", "top": [{"label", "probability"}, ...]}]}`,
    JSON Lines: one such prediction per line. CSV: `label,probability,label,probability,...` per
    line. All list the best first. In JSON a heat map is the prediction's `heat_map`, in base64.
    """
    best = [_best(each.probabilities, classes, top_k) for each in predictions]
    if media_type == "text/csv":
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerows([cell for pair in pairs for cell in pair] for pairs in best)
        return lines.getvalue()
    documents: list[dict[str, object]] = [
        {
            "label": pairs[0][0],
            "probability": pairs[0][1],
            "top": [{"label": label, "probability": value} for label, value in pairs],
        }
        for pairs in best
    ]
    for document, each in zip(documents, predictions, strict=True):
        if each.heat_map is not None:
            document["heat_map"] = base64.b64encode(each.heat_map).decode()
    if media_type == "application/jsonlines":
        return "".join(json.dumps(document, allow_nan=False) + "\n" for document in documents)
    return json.dumps({"predictions": documents}, allow_nan=False) + "\n"


def are_attributes(value: str) -> bool:
    """Whether a custom attributes header may be echoed."""
    return len(value) <= ATTRIBUTES_LIMIT and value.isascii() and value.isprintable()


def check_attributes(value: str) -> str:
    """Return a custom attributes header that may be echoed; raises BadRequest for others."""
    if not are_attributes(value):
        raise BadRequest(
            f"X-Amzn-SageMaker-Custom-Attributes: found {len(value)} characters, "
            f"expected at most {ATTRIBUTES_LIMIT}, all printable ASCII"
        )
    return value


def read_top_k(attributes: str) -> int:
    """The attribute `top_k`, or 5; attributes are separated by commas, semicolons or blanks.

    Raises BadRequest unless it is a whole number from 1. It may exceed the number of classes.
    """
    value = _attribute(attributes, "top_k")
    if value is None:
        return DEFAULT_TOP_K
    if not (value.isdigit() and int(value[:9]) >= 1):
        raise BadRequest(
            f"X-Amzn-SageMaker-Custom-Attributes: found top_k={value}, "
            "expected top_k to be a whole number from 1"
        )
    return int(value[:9])


def read_explain(attributes: str, media_type: str, count: int) -> bool:
    """The attribute `explain`, which requests heat maps.

    Raises BadRequest unless it is true or false, and if a response of `media_type` or for `count`
    images cannot have heat maps.
    """
    if not _flag(attributes, "explain"):
        return False
    if media_type == "text/csv":
        raise BadRequest(
            "Accept: found text/csv, expected application/json or application/jsonlines with "
            "explain=true",
            406,
        )
    if count > MOST_EXPLAINED:
        raise BadRequest(
            f"instances: found {count}, expected at most {MOST_EXPLAINED} in one request with "
            "explain=true",
            413,
        )
    return True


def read_stream(attributes: str, media_type: str) -> bool:
    """The attribute `stream`, which requests each prediction as soon as it is ready.

    Raises BadRequest unless it is true or false, and if `media_type` is not JSON Lines.
    """
    if not _flag(attributes, "stream"):
        return False
    if media_type != "application/jsonlines":
        raise BadRequest(
            f"Accept: found {media_type}, expected application/jsonlines with stream=true", 406
        )
    return True


def _flag(attributes: str, name: str) -> bool:
    value = _attribute(attributes, name)
    if value not in (None, "false", "true"):
        raise BadRequest(
            f"X-Amzn-SageMaker-Custom-Attributes: found {name}={value}, "
            f"expected {name} to be true or false"
        )
    return value == "true"


def _attribute(attributes: str, wanted: str) -> str | None:
    for word in re.split(r"[,;\s]+", attributes):
        name, equals, value = word.partition("=")
        if name == wanted and equals:
            return value
    return None


def _best(
    probabilities: Probabilities, classes: Sequence[str], top_k: int
) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    # str() gives the few digits of a float32, float() alone the seventeen of a float64.
    return [(classes[index], float(str(probabilities[index]))) for index in order]

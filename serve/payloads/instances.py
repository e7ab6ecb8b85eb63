"""JSON bodies: `{"instances": [{"b64": "<base64 of an image>"}, ...]}`.

Unambiguous variants are accepted: base64 with line breaks, in the URL-safe alphabet, without
padding or as a data URL, and other keys besides `b64`.
"""

import binascii
import json
import re
from urllib.parse import unquote_to_bytes

from container.artifact import Artifact
from serve.errors import BadRequest, one_line
from serve.payloads.images import MAX_INSTANCES, RequestImages, check_count, decode

EXPECTED = 'expected {"instances": [{"b64": "<base64 of an image>"}, ...]}'

MAX_STRUCTURE = 1024 * 1024
"""Most bytes of a document outside of strings and blanks: a hundred times those of the largest
request. Parsed, they take 30 MB."""

MAX_STRINGS = 64 * 1024

_PIECE = 64 * 1024
_BLANK = b" \t\r\n"
_DATA_URL = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)


def read_json(body: bytes, artifact: Artifact) -> RequestImages:
    """The images in a JSON document. Raises BadRequest."""
    instances = _instances(body)
    check_count(len(instances))
    texts = [_text(instance, index) for index, instance in enumerate(instances)]
    return RequestImages(
        len(texts),
        (
            decode(from_base64(text, f"instances[{index}].b64"), f"instances[{index}]", artifact)
            for index, text in enumerate(texts)
        ),
    )


def from_base64(text: str, name: str) -> bytes:
    """Decode any usual variant of base64. Raises BadRequest naming `name`."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    if header := _DATA_URL.match(text):
        if not header[0][:-1].lower().endswith(";base64"):
            raise BadRequest(
                f"{name}: found a data URL that is not base64, expected data:image/...;base64,..."
            )
        text = text[header.end() :]
        if "%" in text:
            text = unquote_to_bytes(text).decode("latin-1")
    lines = text.replace("\t", "").splitlines()
    plain = "".join(line.strip(" ") for line in lines).rstrip("=")
    plain = plain.replace("-", "+").replace("_", "/")
    if " " in plain:
        raise BadRequest(
            f"{name}: found blanks within a line, expected base64 (was a + decoded as in a URL?)"
        )
    try:
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError as error:
        raise BadRequest(
            f"{name}: found {one_line(str(error)).rstrip('.')}, expected base64"
        ) from None


def _instances(body: bytes) -> list[object]:
    try:
        document = json.loads(_bounded(body))
    except RecursionError:
        raise BadRequest(f"request body: JSON nested too deeply, {EXPECTED}") from None
    except ValueError as error:
        raise BadRequest(
            f"request body: not JSON ({one_line(str(error))}), {EXPECTED}; for a single image, the "
            "Content-Type is image/jpeg, image/png, ..."
        ) from None
    if not isinstance(document, dict) or "instances" not in document:
        found = f"keys {_some(document)}" if isinstance(document, dict) else _kind(document)
        raise BadRequest(f"request body: found {found}, {EXPECTED}")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise BadRequest(f"instances: found {_kind(instances)}, {EXPECTED}")
    return instances


def _text(instance: object, index: int) -> str:
    if not isinstance(instance, dict) or "b64" not in instance:
        found = f"keys {_some(instance)}" if isinstance(instance, dict) else _kind(instance)
        raise BadRequest(
            f'instances[{index}]: found {found}, expected {{"b64": "<base64 of an image>"}}'
        )
    text = instance["b64"]
    if not isinstance(text, str):
        raise BadRequest(f"instances[{index}].b64: found {_kind(text)}, expected a base64 string")
    return text


def _bounded(body: bytes) -> bytes:
    """The document in UTF-8, if parsing it takes little memory and time.

    A few megabytes of `{},{},...` become hundreds in objects and block all other threads. Strings
    are cheap, so only bytes outside of them are counted. Raises BadRequest, 413.
    """
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        body = body.decode(encoding).encode()
    structure, strings = MAX_STRUCTURE, MAX_STRINGS
    position = 0
    while True:
        quote = body.find(b'"', position)
        end = len(body) if quote < 0 else quote
        for start in range(position, end, _PIECE):
            structure -= len(body[start : min(end, start + _PIECE)].translate(None, _BLANK))
            if structure < 0:
                raise _too_much(f"{MAX_STRUCTURE:,} bytes of JSON outside of strings")
        if quote < 0:
            return body
        # Find the string's end; a quote after an odd number of backslashes is escaped.
        inside = True
        while inside:
            strings -= 1
            if strings < 0:
                raise _too_much(f"{MAX_STRINGS:,} strings and escaped quotes")
            position, quote = quote + 1, body.find(b'"', quote + 1)
            if quote < 0:
                return body
            text = body[position:quote]
            inside = (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
        position = quote + 1


def _too_much(found: str) -> BadRequest:
    return BadRequest(
        f"request body: found more than {found}, {EXPECTED}, at most {MAX_INSTANCES} of them; "
        "send arrays of pixels as application/x-npy",
        413,
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    if value is None:
        return "null"
    if value == []:
        return "an empty list"
    return names.get(type(value), "a number")


def _some(keys: dict[str, object]) -> str:
    shown = [one_line(key)[:40] for key in list(keys)[:5]]
    return f"{shown}{' and more' if len(keys) > 5 else ''}"

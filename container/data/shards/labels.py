"""The label of a sample, by the text of its `.cls` or an attribute of its `.json`."""

import json
import re

from container.data.label_columns import LABELS, bare, whole
from container.files.folders import readable

CLASS_ENDINGS = ("cls", "class", "label")
"""Endings of members that hold nothing but a label, the most usual first."""
JSON_ENDING = "json"
LARGEST_LABEL = 255
"""Bytes of a class's name, as of a class folder's."""
LARGEST_JSON = 1 << 20
"""Bytes of a sample's JSON."""


class BadLabel(Exception):
    """A label cannot be used; one line that says what was found and expected."""


def class_label(data: bytes) -> str:
    """The label in a `.cls`: a class's number, or its name. Raises BadLabel."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise BadLabel(
            "found bytes that are not UTF-8, expected a class's number or name"
        ) from None
    return _checked(text)


def json_label(data: bytes) -> str | None:
    """The label in a sample's JSON, by the usual names of attributes; None where it has none.

    Raises:
        BadLabel: it is not JSON, or the label is no text and no whole number.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadLabel(f"not JSON: {error}") from None
    if isinstance(found, int | str) and not isinstance(found, bool):
        return _checked(str(found))
    if not isinstance(found, dict):
        raise BadLabel("expected a JSON object with a label")
    by_name = {bare(key): (key, value) for key, value in reversed(found.items())}
    for name in LABELS:
        key, value = by_name.get(name, ("", None))
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            short = json.dumps(value)
            short = short if len(short) <= 60 else f"{short[:57]}..."
            raise BadLabel(f"{readable(key)}: found {readable(short)}, expected one class")
        return _checked(str(value))
    return None


def number_of(label: str) -> int | None:
    """The class's number where a label is one, else None."""
    return int(label) if re.fullmatch(r"\d{1,9}", label) and label.isascii() else None


def _checked(text: str) -> str:
    label = whole(text)
    if not label:
        raise BadLabel("found nothing in it, expected a class's number or name")
    if re.fullmatch(r"[+-]?\d+|\d+\.\d+", label) and number_of(label) is None:
        raise BadLabel(f"found class {label[:20]}, expected a number from 0 on, or a name")
    if len(label.encode("utf-8", "surrogatepass")) > LARGEST_LABEL or not label.isprintable():
        raise BadLabel(
            f"found {readable(label[:40])!r}, expected a class's number or name on one line"
        )
    number = number_of(label)
    return label if number is None else str(number)

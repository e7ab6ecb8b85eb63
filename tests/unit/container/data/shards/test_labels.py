"""Reading a sample's class from a `.cls` or `.json` member."""

import json
from typing import Any

import pytest

from container.data.shards.labels import BadLabel, class_label, json_label, number_of


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"3", "3"),
        (b" 12\r\n", "12"),
        (b"\xef\xbb\xbf7\n", "7"),
        (b"007", "7"),
        (b"3.000", "3"),
        (b"goldfish", "goldfish"),
        ("Großer Schwan, Höckerschwan".encode(), "Großer Schwan, Höckerschwan"),
    ],
)
def test_numbers_and_names(data: bytes, label: str) -> None:
    assert class_label(data) == label


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "found nothing in it, expected a class's number or name"),
        (b" \n", "found nothing in it"),
        (b"-1", "found class -1, expected a number from 0 on, or a name"),
        (b"1.5", "found class 1.5, expected a number"),
        (b"9999999999", "found class 9999999999, expected a number"),
        (b"\xff\xfe1\0", "found bytes that are not UTF-8"),
        (b"\x80\x04K\x03.", "found bytes that are not UTF-8"),
        (b"a\nb", r"found 'a\\nb', expected a class's number or name on one line"),
        (b"x" * 256, "expected a class's number or name on one line"),
    ],
)
def test_invalid_labels_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadLabel) as refused:
        class_label(data)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("found", "label"),
    [
        ({"label": 3}, "3"),
        ({"cls": 0}, "0"),
        ({"caption": "a swan", "Class_Name": "swan", "label": 3, "width": 10}, "swan"),
        ({"label": None, "category": "x"}, "x"),
        ({"caption": "a swan", "key": "000", "status": "success", "url": "http"}, None),
        ({}, None),
        (4, "4"),
        ("swan", "swan"),
    ],
)
def test_attributes_of_json(found: Any, label: str | None) -> None:
    assert json_label(json.dumps(found).encode()) == label


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "expected a JSON object with a label"),
        (b'{"label": [0, 1]}', "label: found [0, 1], expected one class"),
        (b'{"label": true}', "label: found true, expected one class"),
        (b'{"label": -3}', "found class -3, expected a number from 0 on"),
    ],
)
def test_json_without_a_usable_label(data: bytes, why: str) -> None:
    with pytest.raises(BadLabel) as refused:
        json_label(data)
    assert why in str(refused.value)


def test_the_number_of_a_label() -> None:
    assert [number_of(label) for label in ("0", "12", "x", "1x", "-1", "٣")] == [
        0, 12, None, None, None, None,
    ]  # fmt: skip

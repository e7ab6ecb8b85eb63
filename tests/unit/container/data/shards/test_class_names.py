"""Reading the file that names numbered classes."""

import json
from pathlib import Path

import pytest

from container.data.shards.class_names import read_class_names
from container.errors import DataError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "ant\nbee\nwasp\n"),
        ("classnames.txt", "\ufeffant\r\n bee \r\nwasp"),
        ("Labels.TXT", "ant\nbee\nwasp\n\n"),
        ("classes.json", json.dumps(["ant", "bee", "wasp"])),
        ("classes.json", json.dumps({"1": "bee", "0": "ant", "2": "wasp"})),
        ("class_to_idx.json", json.dumps({"bee": 1, "ant": 0, "wasp": 2})),
    ],
)
def test_names_by_number(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path) == ("ant", "bee", "wasp")


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("ant\n")
    assert read_class_names(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("classes.txt", b"", "found no names in it"),
        ("classes.txt", b"ant\n\nbee", "found '' as class 1, expected a name"),
        ("classes.txt", b"ant\nbee\nant", "found 'ant' as class 0 and 2, expected each name once"),
        ("classes.txt", b"\xff", "found bytes that are not UTF-8"),
        ("classes.json", b"{", "not JSON"),
        ("classes.json", b"[]", "expected a list of names"),
        ("classes.json", b"[1, 2]", "expected a list of names"),
        ("classes.json", b'{"ant": 0, "bee": 2}', "found classes 0, 2, expected numbers from 0"),
        ("classes.json", b'{"ant": 0, "bee": 0}', "expected numbers from 0 on"),
        ("classes.json", b'{"ant": "x"}', "expected"),
    ],
)
def test_an_invalid_list_of_names_is_refused(
    tmp_path: Path, name: str, data: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=why) as refused:
        read_class_names(tmp_path)
    assert str(refused.value).startswith(str(tmp_path / name))


def test_two_such_files(tmp_path: Path) -> None:
    for name in ("classes.txt", "labels.txt"):
        (tmp_path / name).write_text("a\nb\n")
    with pytest.raises(DataError, match=r"found both classes\.txt and labels\.txt"):
        read_class_names(tmp_path)


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").mkdir()
    with pytest.raises(DataError, match=r"classes\.txt: cannot be read: found a folder"):
        read_class_names(tmp_path)

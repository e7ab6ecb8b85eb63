from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from container.data.index import Index
from container.errors import DataError


def test_paths_are_sorted_and_labelled_by_folder(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"b": 2, "a": 1, "b c": 1})
    index = Index.from_folder(root)
    assert index.classes == ("a", "b", "b c")
    assert index.paths == ("a/000.jpg", "b c/000.jpg", "b/000.jpg", "b/001.jpg")
    assert index.labels.tolist() == [0, 2, 1, 1]
    assert index.labels.dtype == np.int64
    assert index.counts().tolist() == [1, 2, 1]
    assert len(index) == 4
    assert index.read(0) == (root / "a/000.jpg").read_bytes()


def test_hidden_files_and_junk_are_ignored(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"a": 1, "b": 1})
    for junk in (".DS_Store", "._000.jpg", "Thumbs.db", "desktop.ini", "x_$folder$"):
        (root / "a" / junk).write_bytes(b"junk")
        (root / junk).write_bytes(b"junk")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        (root / folder).mkdir()
    index = Index.from_folder(root)
    assert (index.classes, len(index), index.misplaced) == (("a", "b"), 2, ())


def test_files_at_the_wrong_level_are_misplaced(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"a": 1, "a/deeper": 2, "b": 1})
    (root / "notes.txt").write_text("hello")
    index = Index.from_folder(root)
    assert index.paths == ("a/000.jpg", "b/000.jpg")
    assert index.misplaced == ("notes.txt", "a/deeper/")


def test_classes_set_the_order(make_folder: Callable[..., Any]) -> None:
    index = Index.from_folder(make_folder({"b": 1}), ("c", "b", "a"))
    assert index.labels.tolist() == [1]
    assert index.counts().tolist() == [0, 1, 0]


def test_a_class_missing_from_training_is_refused(make_folder: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="found class 'x' that training does not have.*'a', 'b'"):
        Index.from_folder(make_folder({"a": 1, "x": 1}), ("a", "b"))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: not a folder, expected one folder per class"):
        Index.from_folder(tmp_path / "absent")


@pytest.mark.parametrize(("files", "found"), [(0, "nothing"), (3, "3 files")])
def test_a_folder_without_class_folders(files: int, found: str, tmp_path: Path) -> None:
    for number in range(files):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=f"found {found} and no class folders"):
        Index.from_folder(tmp_path)


def test_take_keeps_index_order(make_folder: Callable[..., Any]) -> None:
    index = Index.from_folder(make_folder({"a": 2, "b": 2}))
    taken = index.take([3, 0])
    assert taken.paths == ("a/000.jpg", "b/001.jpg")
    assert taken.labels.tolist() == [0, 1]
    assert taken.classes == index.classes


def test_spread_chooses_images_of_every_class(make_folder: Callable[..., Any]) -> None:
    index = Index.from_folder(make_folder({"a": 7, "b": 7, "c": 7}))
    for most in (3, 16, 20):
        chosen = index.spread(most)
        assert len(set(chosen.tolist())) == most
        assert set(index.labels[chosen].tolist()) == {0, 1, 2}
    assert index.spread(100).tolist() == list(range(21))


def test_a_deleted_file(make_folder: Callable[..., Any]) -> None:
    index = Index.from_folder(make_folder({"a": 1, "b": 1}))
    index.file(1).unlink()
    with pytest.raises(DataError, match=r"^b/000\.jpg: cannot be read: No such file"):
        index.read(1)

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.data.splits import find_splits, stratified
from container.errors import DataError


def test_three_channels(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"t/a": 2, "t/b": 2, "v/a": 1, "v/b": 1, "e/b": 1})
    splits = find_splits({"train": root / "t", "validation": root / "v", "test": root / "e"}, 0, 0)
    assert [(name, len(index)) for name, index in splits.items()] == [
        ("train", 4),
        ("validation", 2),
        ("test", 1),
    ]
    assert splits.test is not None
    assert splits.test.labels.tolist() == [1]


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
@pytest.mark.parametrize("train", ["train", "training"])
def test_common_names_of_splits(train: str, name: str, make_folder: Callable[..., Any]) -> None:
    root = make_folder({"t/a": 2, "t/b": 2, "v/a": 1})
    splits = find_splits({train: root / "t", name: root / "v", "weights": root}, 0.5, 0)
    assert (len(splits.train), len(splits.validation), splits.test) == (4, 1, None)


@pytest.mark.parametrize("channel", ["train", "training", "data"])
def test_one_channel_with_all_splits(channel: str, make_folder: Callable[..., Any]) -> None:
    root = make_folder({"train/a": 2, "train/b": 2, "valid/a": 1, "test/b": 1, "other": 1})
    splits = find_splits({channel: root}, 0.2, 0)
    assert [len(index) for _, index in splits.items()] == [4, 1, 1]


def test_a_class_may_be_called_train(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"bus": 4, "train": 4})
    assert find_splits({"train": root}, 0.25, 0).train.classes == ("bus", "train")


def test_training_data_alone_is_split_by_class_and_seed(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"a": 8, "b": 4})
    (root / "stray.txt").write_text("x")
    splits = find_splits({"data": root}, 0.25, 7)
    assert splits.train.counts().tolist() == [6, 3]
    assert splits.validation.counts().tolist() == [2, 1]
    assert not set(splits.train.paths) & set(splits.validation.paths)
    assert find_splits({"data": root}, 0.25, 7).validation.paths == splits.validation.paths
    assert find_splits({"data": root}, 0.25, 8).validation.paths != splits.validation.paths
    assert (splits.train.misplaced, splits.validation.misplaced) == (("stray.txt",), ())


def test_nested_train_without_validation_is_split(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"train/a": 4, "train/b": 4, "test/a": 1})
    splits = find_splits({"data": root}, 0.25, 0)
    assert [len(index) for _, index in splits.items()] == [6, 2, 1]


class TestRefusals:
    def test_no_train_channel(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"channels: found test, validation, expected train"):
            find_splits({"validation": tmp_path, "test": tmp_path}, 0.2, 0)

    def test_no_channel(self) -> None:
        with pytest.raises(DataError, match="found none, expected train"):
            find_splits({}, 0.2, 0)

    def test_two_names_for_one_split_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="found both validation and val, expected one"):
            find_splits({"train": tmp_path, "val": tmp_path, "validation": tmp_path}, 0.2, 0)

    def test_a_missing_channel(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere: not a folder"):
            find_splits({"train": tmp_path / "nowhere"}, 0.2, 0)

    def test_empty_class_folders(self, make_folder: Callable[..., Any]) -> None:
        with pytest.raises(DataError, match="the class folders are empty"):
            find_splits({"train": make_folder({"a": 0, "b": 0})}, 0.2, 0)

    def test_one_class(self, make_folder: Callable[..., Any]) -> None:
        with pytest.raises(DataError, match=r"found one class only \('a'\), expected two or more"):
            find_splits({"train": make_folder({"a": 3})}, 0.2, 0)

    def test_a_class_found_only_in_validation(self, make_folder: Callable[..., Any]) -> None:
        root = make_folder({"t/a": 2, "t/b": 2, "v/c": 1})
        with pytest.raises(DataError, match="v: found class 'c' that training does not have"):
            find_splits({"train": root / "t", "validation": root / "v"}, 0.2, 0)

    def test_a_validation_channel_without_images(self, make_folder: Callable[..., Any]) -> None:
        root = make_folder({"t/a": 2, "t/b": 2, "v/a": 0})
        with pytest.raises(DataError, match="v: no images"):
            find_splits({"train": root / "t", "validation": root / "v"}, 0.2, 0)

    def test_no_validation_at_all(self, make_folder: Callable[..., Any]) -> None:
        with pytest.raises(DataError, match="validation_split: found 0 and no validation channel"):
            find_splits({"train": make_folder({"a": 2, "b": 2})}, 0, 0)

    @pytest.mark.parametrize("share", [-0.1, 1, 1.5])
    def test_an_invalid_validation_share_is_refused(
        self, share: float, make_folder: Callable[..., Any]
    ) -> None:
        with pytest.raises(DataError, match="expected between 0 and 1"):
            find_splits({"train": make_folder({"a": 2, "b": 2})}, share, 0)

    def test_single_images_cannot_be_split(self, make_folder: Callable[..., Any]) -> None:
        with pytest.raises(DataError, match="every class has a single image"):
            find_splits({"train": make_folder({"a": 1, "b": 1})}, 0.2, 0)


@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 1000),
)
def test_stratified_parts_are_complete_and_have_every_class(
    labels: Any, share: Any, seed: Any
) -> None:
    array = np.array(labels, dtype=np.int64)
    kept, held = stratified(array, share, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        count = labels.count(label)
        out = int((array[held] == label).sum())
        assert out == (0 if count == 1 else min(max(round(count * share), 1), count - 1))


def test_the_global_generator_is_not_used() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    stratified(np.array([0, 0, 1, 1]), 0.5, 9)
    assert np.random.random() == expected

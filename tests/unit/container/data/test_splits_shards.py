"""Splits in tar shards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container.data.lint import lint, main
from container.data.sources.folder import Folder
from container.data.splits import find_splits, read_index, read_splits
from container.errors import DataError
from tests.shards import Member, samples, shards_of, write_shard


def sizes(root: Path, *channels: str) -> dict[str, int]:
    folders = {name: root / name for name in channels} if channels else {"data": root}
    indexes, _ = read_splits(folders)
    return {split: len(index) for split, index in indexes.items()}


def fill(root: Path, *names: str) -> Path:
    """Write a shard of three samples of two classes for each name."""
    for name in names:
        write_shard(root / name, samples(["0", "1", "0"]))
    return root


LAYOUTS = {
    "folders of shards": (["train/0.tar", "train/1.tar", "val/0.tar", "test/0.tar"], (6, 3, 3)),
    "wrapped": (["set/train/0.tar", "set/val/0.tar"], (3, 3, None)),
    "wrapped each": (["train/shards/0.tar", "val/shards/0.tar"], (3, 3, None)),
    "by name": (["x-train-000.tar", "x-train-001.tar", "x-val-000.tar"], (6, 3, None)),
    "by name, all": (["train_0.tar", "validation_0.tar", "test_0.tar"], (3, 3, 3)),
    "by name, in a folder": (["set/train-0.tar", "set/val-0.tar"], (3, 3, None)),
    "upper case": (["Train/0.TAR", "Val/0.TAR"], (3, 3, None)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_the_splits_are(tmp_path: Path, layout: str) -> None:
    names, expected = LAYOUTS[layout]
    found = sizes(fill(tmp_path, *names))
    assert tuple(map(found.get, ("train", "validation", "test"))) == expected


def test_a_channel_of_each_split(tmp_path: Path) -> None:
    fill(tmp_path, "train/0.tar", "val/0.tar", "val/train-1.tar", "test/test-0.tar")
    assert sizes(tmp_path, "train", "val", "test") == {"train": 3, "validation": 6, "test": 3}


def test_one_channel_is_split_by_class_and_seed(tmp_path: Path) -> None:
    for number in range(4):
        write_shard(tmp_path / f"{number}.tar", samples(["0", "1"] * 5))
    splits = find_splits({"data": tmp_path}, 0.2, 7)
    assert splits.train.counts().tolist() == [16, 16]
    assert splits.validation.counts().tolist() == [4, 4]
    assert not set(splits.train.paths) & set(splits.validation.paths)
    again = find_splits({"train": tmp_path}, 0.2, 7)
    assert list(again.validation.paths) == list(splits.validation.paths)


def test_the_folder_takes_precedence_over_the_file_name(tmp_path: Path) -> None:
    fill(tmp_path, "train/val-0.tar", "train/val-1.tar", "val/0.tar")
    assert sizes(tmp_path) == {"train": 6, "validation": 3}


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["train-0.tar", "val-0.tar", "0.tar"], r"as train-0\.tar, and shards that are not, as 0"),
        (["train/train-0.tar", "train/val-0.tar", "val/0.tar"], "found shards of validation among"),
        (["train/0.tar.gz"], r"found 0\.tar\.gz, expected plain \.tar"),
    ],
)
def test_ambiguous_splits_are_refused(tmp_path: Path, names: list[str], why: str) -> None:
    with pytest.raises(DataError, match=why):
        read_splits({"data": fill(tmp_path, *names)})


def test_a_zip_is_refused_with_the_command_that_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="berth data fetch folder DEST --from unpacks a zip"):
        read_splits({"data": tmp_path})


def test_class_folders_with_images_take_precedence_over_a_tar_beside_them(
    make_folder: Callable[..., Any],
) -> None:
    root = make_folder({"train/a": 2, "train/b": 2, "val/a": 1})
    fill(root, "train/backup.tar")
    indexes, _ = read_splits({"data": root})
    assert indexes["train"].paths == ("a/000.jpg", "a/001.jpg", "b/000.jpg", "b/001.jpg")
    assert indexes["train"].misplaced == ("backup.tar",)


def test_one_split_in_shards_and_the_other_in_folders(
    tmp_path: Path, make_folder: Callable[..., Any]
) -> None:
    root = make_folder({"train/a": 2, "train/b": 2})
    write_shard(root / "val" / "0.tar", samples(["b", "a"]))
    indexes, _ = read_splits({"data": root})
    assert indexes["validation"].labels.tolist() == [1, 0]


def test_the_training_splits_file_names_the_classes_of_all_splits(tmp_path: Path) -> None:
    fill(tmp_path, "train/0.tar", "val/0.tar", "test/0.tar")
    (tmp_path / "train" / "classes.txt").write_text("wasp\nant\n")
    indexes, _ = read_splits({"data": tmp_path})
    assert {index.classes for index in indexes.values()} == {("wasp", "ant")}


def test_a_test_split_without_classes_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "train/0.tar", "val/0.tar")
    unlabelled: list[Member] = [("1.jpg", b""), ("2.jpg", b"")]
    write_shard(tmp_path / "test" / "0.tar", unlabelled)
    indexes, notes = read_splits({"data": tmp_path})
    assert set(indexes) == {"train", "validation"}
    assert "holds images without a class in 0.tar, expected" in notes[-1]
    write_shard(tmp_path / "val" / "0.tar", unlabelled)
    with pytest.raises(DataError, match="found 2 images and a class of none"):
        read_splits({"data": tmp_path})


def test_one_class_only(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", samples(["7", "7"]))
    with pytest.raises(DataError, match=r"found one class only \('7'\)"):
        read_splits({"data": tmp_path})


def test_only_splits_of_streamed_channels_are_streamed(tmp_path: Path) -> None:
    fill(tmp_path, "a/train/0.tar", "a/val/0.tar")
    splits = find_splits({"data": tmp_path / "a"}, 0.5, 0, {tmp_path / "a"})
    assert (splits.train.streamed, splits.validation.streamed) == (True, True)
    splits = find_splits(
        {"train": tmp_path / "a" / "train", "val": tmp_path / "a" / "val"}, 0.5, 0,
        {tmp_path / "a" / "val"},
    )  # fmt: skip
    assert (splits.train.streamed, splits.validation.streamed) == (False, True)


class TestLint:
    @pytest.fixture
    def root(self, tmp_path: Path, make_folder: Callable[..., Any]) -> Path:
        """Write shards of 4 and 4 training images and 2 and 2 validation images, some unusable."""
        photos = make_folder({"train/a": 4, "train/b": 4, "validation/a": 2, "validation/b": 2})
        for split in ("train", "validation"):
            shards_of(photos / split, tmp_path / "shards" / split, 2)
        return tmp_path / "shards"

    def said(self, root: Path) -> list[str]:
        lines: list[str] = []
        lint(find_splits({"data": root}, 0.2, 0), on_bad_image="skip", report=lines.append)
        return lines

    def test_good_shards_are_clean(self, root: Path) -> None:
        splits = find_splits({"data": root}, 0.2, 0)
        lines: list[str] = []
        kept = lint(splits, on_bad_image="fail", report=lines.append)
        assert lines == []
        assert list(kept.train.paths) == list(splits.train.paths)
        assert kept.train.digests is not None
        assert main([str(root)]) == 0

    def test_bad_members_are_named_and_left_out(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        good = find_splits({"data": root}, 0.2, 0).train.read(0)
        write_shard(
            root / "train" / "2.tar",
            [("a/x.jpg", good[: len(good) // 2]), ("b/y.jpg", b"<html>"), ("loose.jpg", good)],
        )
        (root / "train" / "3.tar").write_bytes(b"")
        splits = find_splits({"data": root}, 0.2, 0)
        lines: list[str] = []
        kept = lint(splits, on_bad_image="skip", report=lines.append)
        assert len(kept.train) == 8
        assert [line.partition(", expected")[0] for line in lines] == [
            "train: left out (no sample in it): 3.tar",
            "bad image in train: 3.tar: found an empty file",
            "bad image in train: 2.tar!loose.jpg: found no class",
            "bad image in train: 2.tar!a/x.jpg: cut short or damaged JPEG: Premature end of JPEG "
            "file",
            "bad image in train: 2.tar!b/y.jpg: not an accepted image: found HTML, XML or SVG text",
            "4 of 16 files are not usable images",
        ]
        with pytest.raises(DataError, match=r"train: 3\.tar: found an empty file.*4 such files"):
            lint(splits, on_bad_image="fail", report=lines.append)
        assert main([str(root)]) == 1
        assert "2.tar!a/x.jpg: cut short" in capsys.readouterr().out
        assert main([str(root), "--exit-zero"]) == 0

    def test_duplicates_are_found_across_shards_and_splits(self, root: Path) -> None:
        index = find_splits({"data": root}, 0.2, 0).train
        write_shard(root / "validation" / "2.tar", [("b/leak.jpg", index.read(0))])
        assert self.said(root) == [
            "the same picture is in two splits: train/0.tar!a/000.jpg and "
            "validation/2.tar!b/leak.jpg",
            "the same picture has two classes: train/0.tar!a/000.jpg and "
            "validation/2.tar!b/leak.jpg",
        ]

    def test_problems_of_a_held_out_share_are_reported_once(self, root: Path) -> None:
        (root / "train" / "2.tar").write_bytes(b"")
        lines: list[str] = []
        splits = find_splits({"data": root / "train"}, 0.25, 0)
        lint(splits, on_bad_image="skip", report=lines.append)
        assert sum("found an empty file" in line for line in lines) == 1


def test_shards_are_unpacked_into_an_image_folder(
    tmp_path: Path, make_folder: Callable[..., Any]
) -> None:
    photos = make_folder({"train/a": 3, "train/b": 3})
    shards_of(photos / "train", tmp_path / "shards", 2)
    write_shard(tmp_path / "shards" / "2.tar", [("loose.jpg", b"x")])
    Folder(tmp_path / "shards", validation_split=0).write(tmp_path / "dest")
    written = {path.name: path.read_bytes() for path in (tmp_path / "dest").rglob("*.jpg")}
    index = read_index(tmp_path / "shards")
    assert sorted(written.values()) == sorted(map(index.read, range(6)))
    assert sorted(written)[:2] == ["0-a-000.jpg", "0-a-001.jpg"]


def test_a_class_whose_name_is_not_a_valid_folder_name_is_not_written(tmp_path: Path) -> None:
    write_shard(tmp_path / "shards" / "0.tar", samples(["../out", "in", "in", "a/b"]))
    Folder(tmp_path / "shards", validation_split=0).write(tmp_path / "dest")
    assert {path.parent.name for path in tmp_path.rglob("*.jpg")} == {"in"}

"""Folder layouts of users: each works, or one line says what was found and what to do."""

import json
import os
import socket
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from container.data.lint import inspect, lint, main
from container.data.sources import Dogs, Folder
from container.data.splits import Splits, find_splits, read_splits
from container.errors import DataError
from container.files.folders import FolderContents, find_layout, is_junk, split_of

MakeFolder = Callable[..., Path]
Encode = Callable[..., bytes]
LATIN_1 = os.fsdecode(b"caf\xe9")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows such names")


def counts(root: Path) -> dict[str, int]:
    return {name: len(index) for name, index in find_splits({"data": root}, 0.5, 0).items()}


def said(splits: Splits) -> list[str]:
    lines: list[str] = []
    lint(splits, on_bad_image="skip", report=lines.append)
    return lines


class TestSplitNames:
    @pytest.mark.parametrize(
        ("name", "split"),
        [
            *(
                (name, "train")
                for name in ("TRAIN", "Training", "train_set", "Training-Data", "train2017")
            ),
            *((name, "validation") for name in ("Valid", "VAL", "dev", "eval", "Validation Set")),
            *((name, "test") for name in ("Testing", "TEST", "test_images", "tst", "test1")),
            *((name, None) for name in ("cat", "contest", "strain", "devil", "set", "images")),
        ],
    )
    def test_any_case_and_synonym(self, name: str, split: str | None) -> None:
        assert split_of(name) == split

    @pytest.mark.parametrize(
        ("train", "validation", "test"),
        [
            ("Training", "Validation", "Testing"),
            ("TRAIN", "DEV", "TEST"),
            ("Train", "Val", "Test"),
            ("train", "eval", "testing"),
        ],
    )
    def test_as_folders_channels_and_in_a_zip(
        self, make_folder: MakeFolder, tmp_path: Path, train: str, validation: str, test: str
    ) -> None:
        root = make_folder({
            f"{train}/a": 2, f"{train}/b": 2, f"{validation}/a": 1, f"{test}/b": 1,
        })  # fmt: skip
        expected = {"train": 4, "validation": 1, "test": 1}
        assert counts(root) == expected
        channels = {path.name: path for path in root.iterdir()}
        splits = find_splits(channels, 0.5, 0)
        assert {name: len(index) for name, index in splits.items()} == expected
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as bundle:
            for path in root.rglob("*.jpg"):
                bundle.write(path, f"photos/{path.relative_to(root)}")
        Dogs(tmp_path / "photos.zip").write(tmp_path / "dogs")
        Folder(tmp_path / "photos.zip").write(tmp_path / "own")
        for dest in (tmp_path / "dogs", tmp_path / "own"):
            assert sorted(each.name for each in dest.iterdir()) == ["test", "train", "validation"]
            assert counts(dest) == expected

    def test_two_names_for_one_split(self, make_folder: MakeFolder, tmp_path: Path) -> None:
        root = make_folder({"Train/a": 1, "Train/b": 1, "val/a": 1, "Valid/a": 1})
        with pytest.raises(DataError, match="found both val and Valid at .* for validation"):
            find_splits({"data": root}, 0.5, 0)
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as bundle:
            bundle.writestr("train/a/1.jpg", b"x")
            bundle.writestr("Training/a/2.jpg", b"x")
        with pytest.raises(DataError, match="found both train and Training at .* for train"):
            Dogs(tmp_path / "x.zip").write(tmp_path / "dest")

    def test_an_empty_folder_of_two_with_synonymous_names_is_ignored(
        self, make_folder: MakeFolder
    ) -> None:
        splits = find_splits(
            {"x": make_folder({"train/a": 1, "train/b": 1, "val/a": 1, "valid": 0})}, 0.5, 0
        )
        assert len(splits.validation) == 1
        assert any("left out (empty): valid/" in note for note in splits.notes)

    def test_split_folders_without_classes_are_refused(self, make_folder: MakeFolder) -> None:
        with pytest.raises(DataError, match="no class folders in train.*berth data import"):
            find_splits({"data": make_folder({"train": 2, "test": 2})}, 0.5, 0)

    def test_a_channel_that_is_not_a_split_is_named(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 2, "b": 2})
        splits = find_splits({"train": root, "extra": root}, 0.5, 0)
        assert splits.notes == ("channels: left out (not train, validation or test): extra",)

    def test_lost_and_found_is_not_a_channel(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 2, "b": 2})
        splits = find_splits({"photos": root, "lost+found": root}, 0.5, 0)
        assert splits.notes == ("channels: left out (left by a tool): lost+found",)

    def test_files_beside_the_splits_are_named(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, "extra/a": 1})
        (root / "README").write_text("hello")
        (note,) = find_splits({"data": root}, 0.5, 0).notes
        assert note.endswith("left out (not in a split): extra/, README")


class TestWrappers:
    @pytest.mark.parametrize("above", ["photos/", "a/b/", "train/", "dogImages/"])
    def test_folders_around_the_splits(self, make_folder: MakeFolder, above: str) -> None:
        root = make_folder({
            f"{above}train/a": 2, f"{above}train/b": 2, f"{above}valid/a": 1, f"{above}test/b": 1,
            "__MACOSX/photos": 1,
        })  # fmt: skip
        assert counts(root) == {"train": 4, "validation": 1, "test": 1}
        notes = find_splits({"data": root}, 0.5, 0).notes
        assert sum("__MACOSX" in note for note in notes) == 1

    def test_folders_around_the_classes(self, make_folder: MakeFolder) -> None:
        root = make_folder({"flowers/rose": 2, "flowers/tulip": 2, "empty": 0})
        assert find_splits({"train": root}, 0.5, 0).train.classes == ("rose", "tulip")

    def test_folders_around_the_classes_of_a_split(self, make_folder: MakeFolder) -> None:
        root = make_folder({
            "train/train/a": 2, "train/train/b": 2, "val/val/a": 1, "test/test/b": 1,
        })  # fmt: skip
        assert counts(root) == {"train": 4, "validation": 1, "test": 1}
        channels = {path.name: path for path in root.iterdir()}
        assert len(find_splits(channels, 0.5, 0).validation) == 1

    def test_a_single_class_is_not_taken_for_a_wrapping_folder(
        self, make_folder: MakeFolder
    ) -> None:
        with pytest.raises(DataError, match="one class only"):
            find_splits({"train": make_folder({"cat": 2, "cat/small": 1})}, 0.5, 0)

    def test_splits_by_other_names_are_named(self, make_folder: MakeFolder) -> None:
        root = make_folder({"first/a": 2, "first/b": 2, "second/a": 1})
        with pytest.raises(DataError, match="found only folders in first, second, expected"):
            find_splits({"data": root}, 0.5, 0)

    def test_circular_links_are_not_followed(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 2, "b": 2})
        for name, target in (("loop", "."), ("itself", "itself")):
            (root / name).symlink_to(target)
        splits = find_splits({"data": root}, 0.5, 0)
        assert splits.train.classes == ("a", "b")
        wrapped = make_folder({"only": 0}, name="wrapped")
        (wrapped / "only" / "again").symlink_to(wrapped)
        with pytest.raises(DataError):
            find_splits({"data": wrapped}, 0.5, 0)


class TestWhatToolsLeave:
    JUNK = (
        "$RECYCLE.BIN", "__pycache__", "@eaDir", ".git", ".ipynb_checkpoints", "lost+found",
        "System Volume Information", "__MACOSX", "#recycle", ".Trash-1000",
    )  # fmt: skip

    def test_is_not_a_class_and_is_reported_once(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 2, "b": 2} | dict.fromkeys(self.JUNK, 1) | {"new folder": 0})
        for folder in ("a", "b"):
            (root / folder / "Thumbs.db").write_bytes(b"x")
            (root / folder / "@eaDir").mkdir()
        splits = find_splits({"data": root}, 0.5, 0)
        assert splits.train.classes == ("a", "b")
        lines = said(splits)
        assert sum("left by a tool" in line for line in lines) == 1
        assert [line for line in lines if "new folder" in line] == [
            "train: left out (empty): new folder/"
        ]
        assert all(map(is_junk, self.JUNK))
        assert main([str(root)]) == 0

    @pytest.mark.parametrize("other", ["cat", "CAT", "Cat ", "\uff23at"])
    @LINUX
    def test_names_that_differ_in_case_only(self, make_folder: MakeFolder, other: str) -> None:
        root = make_folder({"Cat": 2, other: 2})
        with pytest.raises(DataError, match="found class folders .* differ only in case"):
            find_splits({"data": root}, 0.5, 0)

    @LINUX
    def test_accents_in_two_unicode_forms(self, make_folder: MakeFolder) -> None:
        root = make_folder({"t/caf\u00e9": 1, "t/tea": 1, "v/cafe\u0301": 1})
        with pytest.raises(DataError, match="differs only in case, spaces or accents"):
            find_splits({"train": root / "t", "val": root / "v"}, 0.5, 0)

    def test_a_folder_without_images_is_not_a_class(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, "train/labels": 0, "val/b": 1})
        (root / "train" / "labels" / "1.txt").write_text("0 0.5 0.5 1 1")
        lines: list[str] = []
        kept = lint(find_splits({"x": root}, 0.5, 0), on_bad_image="skip", report=lines.append)
        assert kept.train.classes == kept.validation.classes == ("a", "b")
        assert kept.validation.labels.tolist() == [1]
        assert "train: no class, as no file in it is a usable image: labels" in lines

    def test_a_class_without_images_only_in_train(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, "train/c": 1, "val/c": 1})
        (root / "train" / "c" / "000.jpg").write_bytes(b"x")
        with pytest.raises(DataError, match="validation: found images of c, of which train has no"):
            said(find_splits({"x": root}, 0.5, 0))


class TestUnlabelledTest:
    @pytest.mark.parametrize("folder", ["test", "test/unknown", "Testing/images", "test/test"])
    def test_is_left_out_and_reported(
        self, make_folder: MakeFolder, tmp_path: Path, folder: str
    ) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, folder: 3})
        splits = find_splits({"data": root}, 0.5, 0)
        assert splits.test is None
        (line,) = (line for line in said(splits) if line.startswith("test: left out"))
        assert "berth transform" in line
        channels = {"train": root / "train", "test": root / folder.split("/")[0]}
        assert find_splits(channels, 0.5, 0).test is None
        assert main([str(root)]) == 0
        Folder(root).write(tmp_path / "dest")
        assert not (tmp_path / "dest" / "test").exists()

    def test_empty(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, "test": 0})
        assert find_splits({"data": root}, 0.5, 0).test is None

    @pytest.mark.parametrize(("folder", "found"), [("test/A", "'A'"), ("test/x", "x")])
    def test_a_misspelt_class_is_an_error(
        self, make_folder: MakeFolder, folder: str, found: str
    ) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, folder: 1, "test/y": 1})
        with pytest.raises(DataError, match=f"found class '?{found}"):
            find_splits({"data": root}, 0.5, 0)

    def test_validation_needs_labels(self, make_folder: MakeFolder) -> None:
        root = make_folder({"train/a": 2, "train/b": 2, "val": 3})
        with pytest.raises(DataError, match="val: found 3 files and no class folders"):
            find_splits({"data": root}, 0.5, 0)


@LINUX
class TestNamesThatAreNotUtf8:
    def test_a_file_is_left_out_and_named(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 3, "b": 3})
        (root / "a" / "000.jpg").rename(root / "a" / f"{LATIN_1}.jpg")
        splits = find_splits({"data": root}, 0.5, 0)
        lines: list[str] = []
        kept = lint(splits, on_bad_image="skip", report=lines.append)
        assert sum(r"a/caf\xe9.jpg: its name is not UTF-8" in line for line in lines) == 1
        "\0".join(kept.train.paths + kept.validation.paths).encode()
        indexes, _ = read_splits({"data": root})
        json.dumps(inspect(indexes).to_json()).encode()

    @pytest.mark.parametrize("folder", [LATIN_1, f"train/{LATIN_1}"])
    def test_a_class_is_refused(
        self, make_folder: MakeFolder, folder: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = make_folder({folder: 2, f"{folder} au lait": 2})
        assert main([str(root)]) == 1
        assert r"found class folder 'caf\xe9', whose name is not UTF-8" in capsys.readouterr().err

    def test_the_folder_itself_may_have_such_a_name(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 3, "b": 3}, name=LATIN_1)
        assert main([str(root)]) == 0
        (root / "c").mkdir()
        assert said(find_splits({"data": root}, 0.5, 0)) == ["train: left out (empty): c/"]


class TestFilesThatAreNone:
    def test_are_neither_opened_nor_read_completely(self, make_folder: MakeFolder) -> None:
        root = make_folder({"a": 3, "b": 3})
        os.mkfifo(root / "a" / "pipe.jpg")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(root / "a" / "socket.jpg"))
        (root / "a" / "device.jpg").symlink_to("/dev/zero")
        (root / "a" / "circle.jpg").symlink_to("circle.jpg")
        for name, head in (("zeros.jpg", b""), ("huge.jpg", b"\xff\xd8\xff\xe0")):
            with (root / "b" / name).open("wb") as file:
                file.write(head)
                file.truncate(2 << 30)
        lines = said(find_splits({"data": root}, 0.5, 0))
        text = "\n".join(lines)
        for found in (
            "a/pipe.jpg: cannot be read: found a pipe (FIFO), expected a regular file",
            "a/socket.jpg: cannot be read: found a socket",
            "a/device.jpg: cannot be read: found a device",
            "a/circle.jpg: cannot be read: Too many levels of symbolic links",
            "b/zeros.jpg: not an accepted image: found 2,147,483,648 bytes starting 00 00",
            "b/huge.jpg: cannot be read: found 2,147,483,648 bytes, expected at most",
        ):
            assert found in text
        assert "6 of 12 files are not usable images" in lines

    def test_are_not_copied(self, make_folder: MakeFolder, tmp_path: Path) -> None:
        root = make_folder({"a": 3, "b": 3})
        os.mkfifo(root / "a" / "pipe.jpg")
        Folder(root, validation_split=0).write(tmp_path / "dest")
        assert len(list((tmp_path / "dest").rglob("*.jpg"))) == 6


def test_many_classes_are_not_listed_one_by_one() -> None:
    asked: list[str] = []

    def contents_of(path: str) -> FolderContents:
        asked.append(path)
        depth = path.count("/")
        if depth == 0:
            return FolderContents.of(["train", "validation"], [])
        names = [f"class-{number}" for number in range(1000)]
        return FolderContents.of(names, []) if depth == 1 else FolderContents.of([], ["1.jpg"])

    layout = find_layout(contents_of, "s3://bucket/")
    assert layout.splits == {"train": "train/", "validation": "validation/"}
    assert len(set(asked)) < 10

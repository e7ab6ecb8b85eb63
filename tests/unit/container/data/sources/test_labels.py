"""Turns labels in a table, a manifest or a list beside a flat folder into an image folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container.data.sources import Labels
from container.data.sources.__main__ import main
from container.data.splits import find_splits
from container.errors import DataError

Encode = Callable[..., bytes]
TWO = {"ants/1.jpg", "ants/2.jpg", "bees/3.jpg", "bees/4.jpg"}


@pytest.fixture
def flat(tmp_path: Path, picture: Callable[..., object], encoded: Encode) -> Path:
    folder = tmp_path / "flat"
    folder.mkdir()
    for number in range(1, 7):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(seed=number)))
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def entry(ref: str, name: str, number: int, **more: object) -> str:
    about = {"class-name": name, "type": "groundtruth/image-classification", "confidence": 0.9}
    return json.dumps({"source-ref": ref, "insect": number, "insect-metadata": about, **more})


class TestTables:
    @pytest.mark.parametrize(
        "lines",
        [
            ("path,label", "1.jpg,ants", "2.jpg,ants", "3.jpg,bees", "4.jpg,bees"),
            ("1.jpg,ants", "2.jpg,ants", "3.jpg,bees", "4.jpg,bees"),
            ("ants,1.jpg", "ants,2.jpg", "bees,3.jpg", "bees,4.jpg"),
            ("id,breed", "1,ants", "2,ants", "3,bees", "4,bees"),
            ("Image_Name;Class", "1.jpg;ants", "2.jpg;ants", "3.jpg;bees", "4.jpg;bees"),
            ("filename\tspecies", "1.jpg\tants", "2.jpg\tants", "3.jpg\tbees", "4.jpg\tbees"),
            ("1.jpg ants", "2.jpg ants", "3.jpg bees", "4.jpg bees"),
            ("n,image,label,class name", "9,1.jpg,0,ants", "8,2.jpg,0,ants", "7,3.jpg,1,bees",
             "6,4.jpg,1,bees"),
            ("0,1.jpg,ants", "1,2.jpg,ants", "2,3.jpg,bees", "3,4.jpg,bees"),
            ('"file","who is it"', '"1.jpg","ants"', '"2.jpg","ants"', '"3.jpg","bees"',
             '"4.jpg","bees"'),
            ("file,label", ".\\1.jpg,ants", "./2.jpg,ants", "flat/../3.jpg,bees", "4.jpg,bees"),
            ("\ufefffile,label", "1.jpg,ants", "2.jpg,ants", "3.jpg,bees", "4.jpg,bees"),
        ],
        ids=lambda lines: lines[0],
    )  # fmt: skip
    def test_usual_columns(self, flat: Path, tmp_path: Path, lines: tuple[str, ...]) -> None:
        (flat / "flat").mkdir()
        Labels([write(flat / "labels.csv", *lines)]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == TWO

    @pytest.mark.parametrize("header", [("file,label,split",), ()])
    def test_splits_are_kept(self, flat: Path, tmp_path: Path, header: tuple[str, ...]) -> None:
        rows = ("1.jpg,ants,Train", "2.jpg,ants,VAL", "3.jpg,bees,train", "4.jpg,bees,testing")
        Labels([write(flat / "labels.csv", *header, *rows)]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {
            "train/ants/1.jpg", "validation/ants/2.jpg", "train/bees/3.jpg", "test/bees/4.jpg",
        }  # fmt: skip
        splits = find_splits({"data": tmp_path / "dest"}, 0, 0)
        assert [len(index) for _, index in splits.items()] == [2, 1, 1]

    def test_columns_of_other_names(self, flat: Path, tmp_path: Path) -> None:
        table = write(flat / "t.csv", "x,y,z", "1.jpg,0,ants", "3.jpg,0,bees")
        with pytest.raises(DataError, match=r"u\.csv:1: found columns path, a, b.*--label-column"):
            Labels([write(flat / "u.csv", "path,a,b", "1.jpg,0,ants")]).write(tmp_path / "dest")
        Labels([table], path_column="X", label_column="z").write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {"ants/1.jpg", "bees/3.jpg"}

    def test_images_in_folders_below(self, flat: Path, tmp_path: Path) -> None:
        for folder in ("part 1", "part 2"):
            (flat / folder).mkdir()
        (flat / "1.jpg").rename(flat / "part 1" / "1.jpg")
        (flat / "3.jpg").rename(flat / "part 2" / "3.jpg")
        write(flat / "labels.csv", "image_id,dx", "1,ants", "3,bees")
        Labels([flat]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {"ants/1.jpg", "bees/3.jpg"}

    def test_bad_rows_are_named_and_the_others_kept(
        self, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "secret.jpg").write_bytes((flat / "5.jpg").read_bytes())
        (flat / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        os.mkfifo(flat / "pipe.jpg")
        with (flat / "sparse.jpg").open("wb") as file:
            file.truncate(2 << 30)
        bad = {
            "../secret.jpg,ants": "leads out of",
            f"{tmp_path}/secret.jpg,ants": "leads out of",
            "link.jpg,ants": "leads out of",
            "gone.jpg,ants": "gone.jpg is not in",
            "5.jpg,": "found no label",
            ",ants": "found no path",
            "5.jpg,a/b": "cannot be the name of a class folder",
            "5.jpg,..": "cannot be the name of a class folder",
            "5.jpg": "found 1 columns, expected 2",
            "1.jpg,bees": "1.jpg is ants in",
            "pipe.jpg,ants": "found a pipe",
            "sparse.jpg,ants": "2,147,483,648 bytes",
        }
        good = ("1.jpg,ants", "2.jpg,ants", "3.jpg,bees", "4.jpg,bees")
        table = write(flat / "labels.csv", "path,label", *good, *bad)
        assert main(["labels", str(tmp_path / "dest"), "--labels", str(table)]) == 1
        shown = capsys.readouterr()
        for number, says in enumerate(bad.values(), 6):
            (line,) = (x for x in shown.err.splitlines() if x.startswith(f"{table}:{number}: "))
            assert says in line
        assert f"{len(bad)} of 16 rows cannot be used" in shown.err
        assert "left out (3 images that no row names): 5.jpg, 6.jpg, sparse.jpg" in shown.out
        assert files(tmp_path / "dest") == TWO
        with pytest.raises(DataError, match="12 bad rows"):
            Labels([table], strict=True).write(tmp_path / "other")
        assert not (tmp_path / "other").exists()

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (("path,label,split", "1.jpg,ants,test"), "found test, expected train"),
            (("path,label", "1.jpg,Ants", "2.jpg,ants"), "differ only in case"),
            (("path,label", "x.jpg,ants"), "no row names an image"),
            ((), "nothing in it"),
        ],
    )
    def test_tables_without_usable_labels_are_refused(
        self, flat: Path, tmp_path: Path, lines: tuple[str, ...], says: str
    ) -> None:
        with pytest.raises(DataError, match=says):
            Labels([write(flat / "labels.csv", *lines)]).write(tmp_path / "dest")
        assert not (tmp_path / "dest").exists()

    def test_bytes_that_are_not_utf8(self, flat: Path, tmp_path: Path) -> None:
        (flat / "labels.csv").write_bytes(b"path,label\n1.jpg,caf\xe9\n")
        with pytest.raises(DataError, match=r"labels\.csv:2: found bytes that are not UTF-8"):
            Labels([flat / "labels.csv"]).write(tmp_path / "dest")


class TestManifests:
    def test_class_names_come_from_the_metadata(self, flat: Path, tmp_path: Path) -> None:
        write(
            flat / "out.manifest",
            entry("s3://bucket/some/prefix/1.jpg", "ants", 0),
            entry("2.jpg", "ants", 0),
            entry("s3://bucket/3.jpg", "bees", 1),
            json.dumps({"source-ref": "s3://bucket/4.jpg", "insect": "bees"}),
        )
        Labels([flat / "out.manifest"], label_column="insect").write(tmp_path / "dest")
        assert files(tmp_path / "dest") == TWO

    def test_labels_and_splits(self, flat: Path, tmp_path: Path) -> None:
        write(flat / "a.jsonl", *(
            json.dumps({"source-ref": f"s3://b/{n}.jpg", "class": n % 2, "split": split})
            for n, split in ((1, "train"), (2, "train"), (3, "dev"))
        ))  # fmt: skip
        Labels([flat / "a.jsonl"]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {
            "train/1/1.jpg", "train/0/2.jpg", "validation/1/3.jpg",
        }  # fmt: skip

    def test_bad_lines_are_named(
        self, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        boxes: dict[str, list[Any]] = {"annotations": [], "image_size": []}
        write(
            flat / "x.manifest",
            entry("s3://b/1.jpg", "ants", 0),
            entry("s3://b/3.jpg", "bees", 1),
            "{not JSON",
            json.dumps({"source": "a text", "insect": 0}),
            json.dumps({"source-ref": "s3://b/4.jpg", "boxes": boxes, "boxes-metadata": {}}),
            json.dumps({"source-ref": "s3://b/4.jpg"}),
            entry("s3://b/../../etc/passwd", "ants", 0),
        )
        Labels([flat / "x.manifest"]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {"ants/1.jpg", "bees/3.jpg"}
        shown = capsys.readouterr().err
        for number, says in (
            (3, "not JSON"),
            (4, "found no source-ref"),
            (5, "boxes: found"),
            (6, "found no label"),
            (7, "is not in"),
        ):
            assert f"x.manifest:{number}: " in shown
            (line,) = (x for x in shown.splitlines() if f"x.manifest:{number}: " in x)
            assert says in line


class TestLists:
    def test_train_and_val(self, flat: Path, tmp_path: Path) -> None:
        write(flat / "set_train.lst", "7\t0.000000\t1.jpg", "3\t1.000000\t3.jpg")
        write(flat / "set_val.lst", "0\t0.000000\t2.jpg", "1\t1.0\t4.jpg")
        Labels([flat]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {
            "train/0/1.jpg", "train/1/3.jpg", "validation/0/2.jpg", "validation/1/4.jpg",
        }  # fmt: skip

    def test_bad_lines_are_named(
        self, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = write(flat / "a.lst", "0\t0\t1.jpg", "1\t1\t2.jpg", "2 1 3.jpg", "3\t0\t1\t4.jpg")
        Labels([table]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {"0/1.jpg", "1/2.jpg"}
        shown = capsys.readouterr().err
        assert "a.lst:3: found 1 columns, expected index, label and path" in shown
        assert "a.lst:4: found 4 columns" in shown


class TestLinks:
    def test_images_are_links_unless_copied(self, flat: Path, tmp_path: Path) -> None:
        table = write(flat / "labels.csv", "path,label", "1.jpg,ants", "3.jpg,bees")
        Labels([table]).write(tmp_path / "links")
        Labels([table], copy=True).write(tmp_path / "copies")
        assert (tmp_path / "links/ants/1.jpg").samefile(flat / "1.jpg")
        copy = tmp_path / "copies/ants/1.jpg"
        assert not copy.samefile(flat / "1.jpg")
        assert copy.read_bytes() == (flat / "1.jpg").read_bytes()

    def test_beside_the_images_themselves(
        self, flat: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = write(flat / "labels.csv", "path,label", "1.jpg,ants", "3.jpg,bees")
        Labels([table]).write(flat / "photos")
        assert files(flat / "photos") == {"ants/1.jpg", "bees/3.jpg"}
        assert "4 images that no row names" in capsys.readouterr().out

    def test_two_files_of_one_name(self, flat: Path, tmp_path: Path) -> None:
        (flat / "more").mkdir()
        (flat / "more" / "1.jpg").write_bytes((flat / "6.jpg").read_bytes())
        rows = ("1.jpg,ants", "more/1.jpg,ants", "3.jpg,bees")
        Labels([write(flat / "labels.csv", "path,label", *rows)]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {"ants/1.jpg", "ants/more_1.jpg", "bees/3.jpg"}

    def test_names_that_differ_in_case_get_distinct_files(self, flat: Path, tmp_path: Path) -> None:
        (flat / "more").mkdir()
        (flat / "more" / "1.JPG").write_bytes((flat / "6.jpg").read_bytes())
        rows = ("1.jpg,ants", "more/1.JPG,ants", "3.jpg,bees")
        Labels([write(flat / "labels.csv", "path,label", *rows)]).write(tmp_path / "dest")
        assert files(tmp_path / "dest") == {"ants/1.jpg", "ants/more_1.JPG", "bees/3.jpg"}

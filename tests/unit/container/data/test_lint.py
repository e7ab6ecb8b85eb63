import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container.data.index import Index
from container.data.lint import LintReport, inspect, lint, main
from container.data.splits import find_splits
from container.errors import DataError


@pytest.fixture
def root(make_folder: Callable[..., Any]) -> Path:
    return make_folder({"train/a": 4, "train/b": 4, "validation/a": 2, "validation/b": 2})


def findings(root: Path) -> LintReport:
    return inspect(dict(find_splits({"data": root}, 0.2, 0).items()))


def test_a_good_folder_is_clean_and_unchanged(root: Path) -> None:
    said: list[str] = []
    splits = find_splits({"data": root}, 0.2, 0)
    kept = lint(splits, on_bad_image="fail", report=said.append)
    assert said == []
    assert kept.train.paths == splits.train.paths
    assert kept.validation.paths == splits.validation.paths
    assert kept.test is None
    assert findings(root).clean


class TestBadFiles:
    @pytest.fixture
    def bad(self, root: Path) -> Path:
        (root / "train/a/empty.jpg").write_bytes(b"")
        (root / "train/b/text.gif").write_bytes(b"<html>")
        whole = (root / "validation/b/000.jpg").read_bytes()
        (root / "validation/b/000.jpg").write_bytes(whole[: len(whole) // 2])
        return root

    def test_skip_reports_bad_files_without_deleting_them(self, bad: Path) -> None:
        said: list[str] = []
        before = sorted(bad.rglob("*"))
        splits = find_splits({"data": bad}, 0.2, 0)
        kept = lint(splits, on_bad_image="skip", report=said.append)
        assert len(kept.train) == 8
        assert kept.validation.paths == ("a/000.jpg", "a/001.jpg", "b/001.jpg")
        assert kept.validation.labels.tolist() == [0, 0, 1]
        assert said == [
            "bad image in train: a/empty.jpg: empty (0 bytes), "
            "expected a JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or JPEG 2000 image",
            "bad image in train: b/text.gif: not an accepted image: found HTML, XML or SVG text, "
            "expected JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or JPEG 2000",
            "bad image in validation: b/000.jpg: cut short or damaged JPEG: "
            "Premature end of JPEG file",
            "3 of 14 files are not usable images",
        ]
        assert sorted(bad.rglob("*")) == before

    def test_fail_names_the_first_and_the_count(self, bad: Path) -> None:
        splits = find_splits({"data": bad}, 0.2, 0)
        with pytest.raises(DataError, match=r"^train: a/empty\.jpg: empty .*\(3 such files\)$"):
            lint(splits, on_bad_image="fail", report=list[str]().append)

    def test_no_usable_image(self, root: Path) -> None:
        for path in (root / "validation").rglob("*.jpg"):
            path.write_bytes(b"x")
        with pytest.raises(DataError, match="validation: no usable image is left"):
            lint(find_splits({"data": root}, 0, 0), on_bad_image="skip", report=list[str]().append)

    def test_a_class_without_usable_images_is_named(self, root: Path) -> None:
        for path in (root / "train/b").iterdir():
            path.write_bytes(b"x")
        report = findings(root)
        assert report.empty == {"train": ("b",)}
        assert "train: no images of b" in report.lines()

    def test_a_file_that_cannot_be_read(self, root: Path) -> None:
        (root / "train/a/gone.jpg").symlink_to(root / "nowhere.jpg")
        report = findings(root)
        assert [bad.reason for bad in report.bad] == [
            "a/gone.jpg: cannot be read: No such file or directory"
        ]


class TestTwins:
    def test_the_same_bytes_in_two_splits(self, root: Path) -> None:
        shutil.copyfile(root / "train/a/001.jpg", root / "validation/a/copy.jpg")
        report = findings(root)
        (leak,) = report.leaks
        assert (leak.split, leak.path) == ("train", "a/001.jpg")
        assert (leak.other_split, leak.other_path) == ("validation", "a/copy.jpg")
        assert report.conflicts == ()
        assert list(report.lines()) == [
            "the same picture is in two splits: train/a/001.jpg and validation/a/copy.jpg"
        ]

    def test_the_same_bytes_under_two_classes(self, root: Path) -> None:
        shutil.copyfile(root / "train/a/001.jpg", root / "train/b/copy.jpg")
        report = findings(root)
        assert (len(report.leaks), len(report.conflicts)) == (0, 1)
        assert not report.clean

    def test_a_copy_within_a_class_is_accepted(self, root: Path) -> None:
        shutil.copyfile(root / "train/a/001.jpg", root / "train/a/copy.jpg")
        assert findings(root).clean

    def test_many_findings_are_counted(self, root: Path) -> None:
        for number in range(7):
            shutil.copyfile(root / "train/a/001.jpg", root / f"validation/a/copy{number}.jpg")
        lines = list(findings(root).lines())
        assert lines[-1] == "the same picture is in two splits: 7 times in all"
        assert len(lines) == 6


def test_a_class_missing_from_a_split(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"train/a": 2, "train/b": 2, "validation/a": 1})
    assert findings(root).empty == {"validation": ("b",)}


def test_misplaced_files_are_named(root: Path) -> None:
    (root / "train/labels.csv").write_text("a,b")
    report = findings(root)
    assert report.misplaced == {"train": ("labels.csv",)}
    assert list(report.lines()) == ["train: not used because not <class>/<image>: labels.csv"]


def test_a_strong_imbalance_is_a_warning_only(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"train/a": 20, "train/b": 2, "validation/a": 1, "validation/b": 1})
    report = findings(root)
    assert report.imbalance == 10
    assert report.clean
    assert list(report.lines()) == ["train: the largest class has 10 times the smallest's images"]


def test_the_report_is_json(root: Path) -> None:
    (root / "train/a/empty.jpg").write_bytes(b"")
    value = json.loads(json.dumps(findings(root).to_json()))
    assert value["images"] == {"train": 9, "validation": 4}
    assert value["bad"][0]["path"] == "a/empty.jpg"


class TestCommand:
    def test_clean(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(root)]) == 0
        assert capsys.readouterr().out == "2 classes; files: train 8, validation 4\n"

    def test_class_folders_alone(
        self, make_folder: Callable[..., Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([str(make_folder({"a": 2, "b": 1}))]) == 0
        assert capsys.readouterr().out == "2 classes; files: train 3\n"

    def test_problems(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "train/a/empty.jpg").write_bytes(b"")
        assert main([str(root)]) == 1
        assert "bad image in train: a/empty.jpg" in capsys.readouterr().out

    def test_json(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(root), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["bad"] == []

    def test_progress_is_not_part_of_the_json(
        self,
        root: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        minutes = itertools.count(step=60.0)
        clock = SimpleNamespace(monotonic=lambda: next(minutes))
        monkeypatch.setattr("container.files.progress.time", clock)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
        assert main([str(root), "--json"]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["bad"] == []
        assert "checking train images" in shown.err

    def test_no_such_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(tmp_path / "x")]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_more_files_than_one_chunk(make_folder: Callable[..., Any]) -> None:
    root = make_folder({"a": 70, "b": 70}, side=(8, 8))
    (root / "b/999.jpg").write_bytes(b"x")
    report = inspect({"train": Index.from_folder(root)})
    assert [bad.path for bad in report.bad] == ["b/999.jpg"]

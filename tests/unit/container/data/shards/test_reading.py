"""The index of a split in shards: its classes, its labels and the files left out."""

from pathlib import Path

import pytest

from container.data.index import Index
from container.data.shards.reading import LIES_BY_CLASS, NoLabels, ShardSplit, read_shards
from container.errors import DataError
from tests.shards import Member, samples, write_shard


def shards(root: Path, *parts: list[Member]) -> tuple[str, ...]:
    for number, members in enumerate(parts):
        write_shard(root / f"{number}.tar", members)
    return tuple(f"{number}.tar" for number in range(len(parts)))


def read(root: Path, *parts: list[Member], classes: tuple[str, ...] | None = None) -> Index:
    return read_shards(root, shards(root, *parts), classes).index


def named(index: Index) -> list[tuple[str, str]]:
    """Return the path and class of each image."""
    return [
        (path, index.classes[label])
        for path, label in zip(index.paths, index.labels.tolist(), strict=True)
    ]


def folders(*names: str) -> list[Member]:
    return [(name, name.encode()) for name in names]


def test_images_are_in_archive_order(tmp_path: Path) -> None:
    index = read(tmp_path, samples(["1", "0"], b"first"), samples(["2"], b"second"))
    assert named(index) == [
        ("0.tar!000000.jpg", "1"),
        ("0.tar!000001.jpg", "0"),
        ("1.tar!000000.jpg", "2"),
    ]
    assert [index.read(at) for at in range(3)] == [b"first", b"first", b"second"]
    assert (index.notes, index.misplaced, index.unusable) == ((), (), ())
    taken = index.take([0, 2])
    assert named(taken) == [("0.tar!000000.jpg", "1"), ("1.tar!000000.jpg", "2")]
    assert taken.read(1) == b"second"
    with pytest.raises(ValueError, match="member of a shard"):
        index.file(0)


class TestClasses:
    def test_numbers_are_sorted_numerically(self, tmp_path: Path) -> None:
        assert read(tmp_path, samples(["10", "9", "2"])).classes == ("2", "9", "10")

    def test_names_are_sorted(self, tmp_path: Path) -> None:
        index = read(tmp_path, samples(["wasp", "ant", "10", "9"]))
        assert index.classes == ("10", "9", "ant", "wasp")

    def test_folders_are_sorted_as_an_image_folders_are(self, tmp_path: Path) -> None:
        index = read(tmp_path, folders("9/1.jpg", "10/2.jpg", "10/3.png"))
        assert index.classes == ("10", "9")
        assert index.labels.tolist() == [1, 0, 0]

    def test_the_innermost_folder_is_the_class(self, tmp_path: Path) -> None:
        index = read(tmp_path, folders("./photos/train/ants/1.jpg", "photos/train/bees/2.jpg"))
        assert index.classes == ("ants", "bees")

    def test_a_file_of_names_sets_names_and_order_of_numbers(self, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("wasp\nant\nbee\n")
        index = read(tmp_path, samples(["1", "0", "bee", "3", "fly"]))
        assert index.classes == ("wasp", "ant", "bee")
        assert [name for _, name in named(index)] == ["ant", "wasp", "bee"]
        assert [line for _, line in index.unusable] == [
            "0.tar!000003.jpg: found class 3, expected 0 to 2 by the file of class names",
            "0.tar!000004.jpg: found class fly, expected wasp, ant, bee by the file of class names",
        ]
        assert index.notes == ()

    def test_numbers_take_precedence_over_names_that_are_numbers(self, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("3\n1\n7\n")
        assert [n for _, n in named(read(tmp_path, samples(["1", "7", "0"])))] == ["1", "7", "3"]

    def test_folders_must_be_among_the_names(self, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("ant\nbee\n")
        assert read(tmp_path, folders("bee/1.jpg", "ant/1.jpg")).classes == ("ant", "bee")
        with pytest.raises(DataError, match="found class 'fly' that training does not have"):
            read(tmp_path, folders("bee/1.jpg", "fly/1.jpg"))

    def test_another_split_has_the_classes_of_training(self, tmp_path: Path) -> None:
        index = read(tmp_path, samples(["b", "c"]), classes=("c", "a", "b"))
        assert index.classes == ("c", "a", "b")
        assert index.labels.tolist() == [2, 0]
        with pytest.raises(DataError, match="found class 'B', training has 'b', which differs"):
            read(tmp_path, samples(["B"]), classes=("a", "b"))

    def test_another_split_has_the_names_of_training(self, tmp_path: Path) -> None:
        names = ("wasp", "ant")
        one = shards(tmp_path, samples(["1", "0"]))
        found = read_shards(tmp_path, one, ("wasp", "ant"), names=names)
        assert (found.index.labels.tolist(), found.names) == ([1, 0], names)
        (tmp_path / "classes.txt").write_text("wasp\nant\n")
        assert read_shards(tmp_path, one, names=names).names == names
        (tmp_path / "classes.txt").write_text("ant\nwasp\n")
        with pytest.raises(DataError, match="has others than the training split's"):
            read_shards(tmp_path, one, names=names)

    def test_names_that_differ_in_case(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="'Cat' and 'cat', which differ only in case"):
            read(tmp_path, samples(["Cat", "cat"]))


class TestWhatCannotBeUsed:
    def test_an_image_without_a_class_among_others(self, tmp_path: Path) -> None:
        index = read(
            tmp_path,
            [*samples(["0", "1"]), ("x.jpg", b""), ("y.jpg", b""), ("y.json", b"{}")],
            folders("ants/z.jpg"),
        )
        assert len(index) == 2
        assert index.unusable == (
            ("0.tar!x.jpg", "0.tar!x.jpg: found no label, expected x.cls"),
            ("0.tar!y.jpg", "0.tar!y.jpg: found no label in y.json, expected one"),
            ("1.tar!ants/z.jpg", "1.tar!ants/z.jpg: found no label, expected z.cls"),
        )

    def test_an_image_outside_of_class_folders(self, tmp_path: Path) -> None:
        index = read(tmp_path, folders("a/1.jpg", "b/1.jpg", "loose.jpg"))
        assert index.unusable == (
            (
                "0.tar!loose.jpg",
                "0.tar!loose.jpg: found no class, expected CLASS/FILE.jpg, or KEY.cls beside it",
            ),
        )

    def test_no_class_at_all(self, tmp_path: Path) -> None:
        members: list[Member] = [("1.jpg", b""), ("1.txt", b"swan"), ("2.jpg", b"")]
        with pytest.raises(NoLabels) as refused:
            read(tmp_path, members)
        assert str(refused.value) == (
            f"{tmp_path}: found 2 images and a class of none (besides .txt); 0.tar!2.jpg: found no "
            "class, expected CLASS/FILE.jpg, or KEY.cls beside it"
        )

    def test_no_usable_label(self, tmp_path: Path) -> None:
        with pytest.raises(NoLabels, match=r"0\.tar!000000\.jpg: 000000\.cls: found class -1"):
            read(tmp_path, samples(["-1"]))

    def test_no_image(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"found no image in 0\.tar, 1\.tar, expected KEY\.jpg"):
            read(tmp_path, [("1.txt", b"")], [])
        (tmp_path / "0.tar").write_bytes(b"")
        with pytest.raises(DataError, match=r"0\.tar: found an empty file, expected a tar$"):
            read_shards(tmp_path, ("0.tar",))

    def test_splits_within_the_shards(self, tmp_path: Path) -> None:
        both = folders("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
        with pytest.raises(DataError, match="found train and validation in the same shards") as why:
            read(tmp_path, both)
        assert "0.tar!train/a/1.jpg, 0.tar!val/a/1.jpg" in str(why.value)

    @pytest.mark.parametrize("name", ["1.tar.gz", "1.tgz", "1.tar.zst", "1.TAR.XZ"])
    def test_a_compressed_shard(self, tmp_path: Path, name: str) -> None:
        write_shard(tmp_path / "0.tar", samples(["0", "1"]))
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=rf"found {name}, expected plain \.tar"):
            read_shards(tmp_path, ("0.tar", name))


def test_files_left_out_are_reported(tmp_path: Path) -> None:
    extra: list[Member] = [
        ("000000.seg.png", b""), ("000000.txt", b""), ("000001.txt", b""), ("._x.jpg", b""),
        ("README", b""),
    ]  # fmt: skip
    for name in ("0_stats.json", "classes.txt", "Thumbs.db"):
        (tmp_path / name).write_text("a\nb\n")
    (tmp_path / "logs").mkdir()
    index = read(tmp_path, [*samples(["0", "1"]), *extra], [])
    assert index.notes == (
        "left out (left by a tool): Thumbs.db, 0.tar!._x.jpg",
        "left out (beside the shards): logs/, 0_stats.json",
        "left out (another image of its key): 0.tar!000000.seg.png",
        "left out (no sample in it): 1.tar",
        "left out (neither an image nor a label by its ending): no ending: 1, first 0.tar!README",
        "left out (neither an image nor a label by its ending): .txt: 2, first 0.tar!000000.txt",
    )


class TestStreamed:
    def found(self, tmp_path: Path, labels: list[str]) -> ShardSplit:
        return read_shards(tmp_path, shards(tmp_path, samples(labels)), streamed=True)

    def test_the_index_is_that_of_shards_that_are_not_streamed(self, tmp_path: Path) -> None:
        streamed = self.found(tmp_path, ["0", "1", "2"] * 5).index
        plain = read_shards(tmp_path, ("0.tar",)).index
        assert named(streamed) == named(plain)
        assert (streamed.streamed, plain.streamed) == (True, False)
        assert streamed.notes == ()

    def test_samples_sorted_by_class_are_reported(self, tmp_path: Path) -> None:
        labels = sorted(["0", "1", "2"] * 10)
        assert self.found(tmp_path, labels).index.notes == (LIES_BY_CLASS,)
        assert read_shards(tmp_path, ("0.tar",)).index.notes == ()

"""The samples of one shard."""

import tarfile
from pathlib import Path

import pytest

from container.data.members import OpenShards
from container.data.shards.samples import ShardSamples, read_samples
from container.errors import DataError
from tests.shards import Member, samples, write_shard


def read(tmp_path: Path, members: list[Member], *, streamed: bool = False) -> ShardSamples:
    write_shard(tmp_path / "0.tar", members)
    return read_samples(OpenShards(tmp_path), "0.tar", streamed=streamed)


def images(found: ShardSamples) -> list[tuple[str, str]]:
    """Return the name and label of each image."""
    starts = [0, *found.ends][:-1]
    names = [found.names[start:end].decode() for start, end in zip(starts, found.ends, strict=True)]
    return list(zip(names, found.labels, strict=True))


def refused(found: ShardSamples) -> list[str]:
    return [line for _, line in found.unusable]


@pytest.mark.parametrize("streamed", [False, True])
def test_an_image_and_a_class_with_the_same_key(tmp_path: Path, streamed: bool) -> None:
    found = read(tmp_path, samples(["3", "cat"], b"pixels"), streamed=streamed)
    assert images(found) == [("000000.jpg", "3"), ("000001.jpg", "cat")]
    assert found.labelled
    data = (tmp_path / "0.tar").read_bytes()
    for offset, size in zip(found.offset, found.size, strict=True):
        assert data[offset : offset + size] == b"pixels"
    assert (found.unusable, found.unused, found.others) == ([], {}, [])


def test_members_of_a_key_may_be_anywhere_and_in_folders(tmp_path: Path) -> None:
    members: list[Member] = [
        ("./a/1.JPG", b""), ("b/1.png", b""), ("b/1.cls", b"0"), ("a/1.Cls", b"1"),
    ]  # fmt: skip
    assert images(read(tmp_path, members)) == [("a/1.JPG", "1"), ("b/1.png", "0")]


def test_a_key_ends_at_the_first_dot(tmp_path: Path) -> None:
    members: list[Member] = [("a.b/1.left.jpg", b""), ("a.b/1.cls", b"4")]
    assert images(read(tmp_path, members)) == [("a.b/1.left.jpg", "4")]


@pytest.mark.parametrize("order", [1, -1])
def test_cls_takes_precedence_over_json(tmp_path: Path, order: int) -> None:
    members: list[Member] = [
        ("1.cls", b"1"), ("1.jpg", b""), ("1.json", b'{"label": 2}'),
        ("2.jpg", b""), ("2.json", b'{"label": 2}'),
    ]  # fmt: skip
    assert sorted(images(read(tmp_path, members[::order]))) == [("1.jpg", "1"), ("2.jpg", "2")]


def test_one_of_several_images_is_chosen_and_the_others_are_named(tmp_path: Path) -> None:
    members: list[Member] = [
        ("1.cls", b"1"), ("1.seg.png", b""), ("1.png", b""), ("1.jpg", b""),
        ("2.cls", b"1"), ("2.seg.png", b""), ("2.webp", b""),
        ("3.cls", b"1"), ("3.left.png", b""), ("3.right.png", b""),
    ]  # fmt: skip
    found = read(tmp_path, members)
    assert images(found) == [("1.jpg", "1"), ("2.webp", "1")]
    assert found.others == ["0.tar!1.seg.png", "0.tar!1.png", "0.tar!2.seg.png"]
    assert refused(found) == [
        f"0.tar!3.{side}.png: found the images .left.png, .right.png of one key, expected one, as "
        "3.jpg"
        for side in ("left", "right")
    ]


def test_images_without_labels_are_separate_samples(tmp_path: Path) -> None:
    members: list[Member] = [("a/IMG.1.jpg", b""), ("a/IMG.2.jpg", b""), ("b/1.png", b"")]
    found = read(tmp_path, members)
    assert images(found) == [("a/IMG.1.jpg", ""), ("a/IMG.2.jpg", ""), ("b/1.png", "")]
    assert not found.labelled
    assert found.unusable == []


def test_json_without_a_label_gives_no_label(tmp_path: Path) -> None:
    members: list[Member] = [("a/1.jpg", b""), ("a/1.json", b'{"caption": "a swan"}')]
    found = read(tmp_path, members)
    assert not found.labelled
    assert found.reasons == {0: "found no label in 1.json, expected one"}


def test_unusable_samples_are_named(tmp_path: Path) -> None:
    link = tarfile.TarInfo("4.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "1.jpg"
    members: list[Member] = [
        ("1.cls", b"1"), ("1.jpg", b""), ("1.jpg", b""), ("1.cls", b"2"),
        ("2.cls", b"-1"), ("2.jpg", b""), ("3.cls", b"5"), (link, b""), ("../5.jpg", b""),
        ("6.cls", b"1" * 2000), ("6.jpg", b""), ("\udce9.jpg", b""),
    ]  # fmt: skip
    found = read(tmp_path, members)
    assert images(found) == [("1.jpg", "1"), ("2.jpg", ""), ("6.jpg", "")]
    assert found.reasons == {
        1: "2.cls: found class -1, expected a number from 0 on, or a name",
        2: "6.cls: found 2,000 bytes, expected at most 1,020",
    }
    assert refused(found) == [
        "0.tar!1.jpg: found twice in the shard, expected once",
        "0.tar!1.cls: found twice in the shard, expected once",
        "0.tar!4.jpg: found a symbolic link, expected a file (tar --dereference)",
        "0.tar!../5.jpg: found a path that leads out of the shard, expected one within it",
        "0.tar!\\xe9.jpg: its name is not UTF-8: rename it",
        "0.tar!3.cls: found no image of its key, expected 3.jpg or such",
    ]
    for path, _ in found.unusable:
        path.encode()


def test_other_members_are_counted_by_extension_and_junk_is_left_out(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    members: list[Member] = [
        (folder, b""), ("a/1.jpg", b""), ("a/1.txt", b"swan"), ("a/2.txt", b""), ("a/3.npy", b""),
        ("a/._1.jpg", b""), ("__MACOSX/a/1.jpg", b""), ("README", b""), (".hidden", b""),
    ]  # fmt: skip
    found = read(tmp_path, members)
    assert images(found) == [("a/1.jpg", "")]
    assert found.unused == {"txt": (2, "a/1.txt"), "npy": (1, "a/3.npy"), "": (1, "README")}
    assert list(found.junk) == ["._1.jpg", "__MACOSX", ".hidden"]


def test_a_truncated_shard_gives_its_complete_samples(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", samples(["0", "1", "2"], b"x" * 600))
    path.write_bytes(path.read_bytes()[:5700])
    found = read_samples(OpenShards(tmp_path), "0.tar", streamed=False)
    assert images(found) == [("000000.jpg", "0"), ("000001.jpg", "1")]
    assert refused(found) == [
        "0.tar: cut short after 000002.cls: it ends at byte 5,700, expected the next header at "
        "byte 6,144",
        "0.tar!000002.cls: found no image of its key, expected 000002.jpg or such",
    ]


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = read_samples(OpenShards(tmp_path), "gone.tar", streamed=False)
    assert found.unusable == [("gone.tar", "gone.tar: cannot be read: No such file or directory")]


def test_a_compressed_shard_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(DataError, match=r"0\.tar: found a compressed tar, expected a plain one"):
        read_samples(OpenShards(tmp_path), "0.tar", streamed=False)

import stat
from pathlib import Path

import pytest

from local.emulator.executors.shared import SharedFolders, link, make, make_mount_point


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_returned_by_its_last_user(tmp_path: Path) -> None:
    folders, handed_back = SharedFolders(), list[Path]()
    one, two = tmp_path / "above" / "one", tmp_path / "two"
    folders.acquire("first", [one])
    folders.acquire("second", [one, two])
    assert mode(one) == mode(two) == 0o777
    folders.release("first", handed_back.append)
    folders.release("first", handed_back.append)
    assert handed_back == []
    folders.release("second", handed_back.append)
    assert handed_back == [one, two]
    folders.acquire("third", [two])
    folders.release("third", handed_back.append)
    assert handed_back == [one, two, two]


def test_files_of_a_returned_folder_are_accessible_to_the_next_user(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o600)
    shared = tmp_path / "shared"
    folders = SharedFolders()
    folders.acquire("job", [shared])
    (shared / "features").mkdir(mode=0o700)
    (shared / "features" / "data").write_text("x")
    (shared / "features" / "data").chmod(0o400)
    (shared / "link").symlink_to(outside)
    folders.release("job", lambda _folder: None)
    assert mode(shared / "features") & 0o777 == 0o777
    assert mode(shared / "features" / "data") & 0o066 == 0o066
    assert mode(outside) == 0o600


def test_a_folder_deleted_while_in_use_is_not_an_error(tmp_path: Path) -> None:
    folders = SharedFolders()
    folders.acquire("job", [tmp_path / "shared"])
    (tmp_path / "shared").rmdir()
    folders.release("job", lambda _folder: None)
    folders.acquire("another", [tmp_path / "shared"])
    assert (tmp_path / "shared").is_dir()


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "shared").touch()
    with pytest.raises(FileExistsError):
        make(tmp_path / "shared")


def test_a_link_replaces_an_existing_file_or_folder(tmp_path: Path) -> None:
    base, folder, other = tmp_path / "base", tmp_path / "shared", tmp_path / "other"
    for path in (base, folder, other):
        path.mkdir()
    (other / "precious").touch()
    place = base / "a" / "b"
    for _ in range(2):
        link(base, "a/b", folder)
        assert place.readlink() == folder
    place.unlink()
    place.symlink_to(other)
    link(base, "a/b", folder)
    assert place.readlink() == folder
    place.unlink()
    (place / "left").mkdir(parents=True)
    link(base, "a/b", folder)
    assert place.readlink() == folder
    place.unlink()
    (base / "a").rmdir()
    (base / "a").symlink_to(other)
    link(base, "a/b", folder)
    assert place.readlink() == folder
    assert [path.name for path in other.iterdir()] == ["precious"]


def test_a_mount_point_is_a_folder_and_not_a_link(tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "shared"
    folder.mkdir()
    base.mkdir()
    link(base, "a/b", folder)
    make_mount_point(base, "a/b")
    make_mount_point(base, "a/b")
    assert (base / "a" / "b").is_dir()
    assert not (base / "a" / "b").is_symlink()
    assert folder.is_dir()

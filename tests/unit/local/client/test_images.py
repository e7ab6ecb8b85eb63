import os
from pathlib import Path

import pytest

from local.client.images import find_images
from local.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("ants/1.jpg", "ants/2.PNG", "bees/1.webp", "top.tiff", "notes.txt", ".x/3.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_images_and_classes_are_read_from_a_folder(photos: Path) -> None:
    found = find_images([photos])
    assert [(one.name, one.truth, one.content_type) for one in found] == [
        ("ants/1.jpg", "ants", "image/jpeg"),
        ("ants/2.PNG", "ants", "image/png"),
        ("bees/1.webp", "bees", "image/webp"),
        ("top.tiff", None, "image/tiff"),
    ]


def test_a_file_given_by_name_may_have_any_extension(photos: Path) -> None:
    (found,) = find_images([photos / "notes.txt"])
    assert (found.truth, found.content_type) == (None, "application/octet-stream")


def test_a_missing_path_is_named(photos: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        find_images([photos / "nowhere"])
    (photos / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images found"):
        find_images([photos / "empty"])


def test_other_files_are_reported_and_junk_is_not_sent(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(photos / "ants" / "pipe.jpg")
    (photos / "ants" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    (photos / "@eaDir").mkdir()
    (photos / "@eaDir" / "1.jpg").write_bytes(b"x")
    names = [one.name for one in find_images([photos])]
    assert names == ["ants/1.jpg", "ants/2.PNG", r"ants/caf\xe9.jpg", "bees/1.webp", "top.tiff"]
    assert capsys.readouterr().err.endswith("left out (not images): ants/pipe.jpg, notes.txt\n")


def test_a_pipe_is_not_opened(photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    with pytest.raises(UserError, match="neither a regular file nor a folder"):
        find_images([photos / "pipe.jpg"])

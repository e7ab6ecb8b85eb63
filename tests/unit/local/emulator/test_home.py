from pathlib import Path

import pytest

from local.emulator.home import Home
from local.errors import UserError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_home_is_accessible_only_to_its_owner(tmp_path: Path) -> None:
    assert mode(Home.find(tmp_path / "a" / "new").path) == 0o700
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o755)
    assert mode(Home.find(empty).path) == 0o700
    earlier = tmp_path / "earlier"
    earlier.mkdir(mode=0o755)
    (earlier / "state.sqlite").touch()
    (earlier / "s3").mkdir()
    assert mode(Home.find(earlier).path) == 0o700


def test_permissions_of_an_existing_folder_are_not_changed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"shared: other users can access it \(mode 755\)"):
        Home.find(shared)
    assert mode(shared) == 0o755
    shared.chmod(0o700)
    assert Home.find(shared).path == shared


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    with pytest.raises(UserError, match="another user's folder"):
        Home.find(tmp_path)


def test_a_user_without_a_home_folder_must_choose_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is `docker run --user 12345` in an image without that user."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "BERTH_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(UserError, match="found no home folder .* --home or BERTH_HOME"):
        Home.find()
    assert Home.find(tmp_path / "home").path == tmp_path / "home"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: "):
        Home.find(tmp_path / "file")


def test_a_disk_without_permissions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Windows drive under WSL, for example, changing a mode succeeds without effect."""
    (tmp_path / "drive").mkdir(mode=0o755)
    (tmp_path / "drive").chmod(0o777)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.raises(UserError, match="drive: the file system does not support permissions"):
        Home.find(tmp_path / "drive")

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from local.emulator.executors import ownership
from local.emulator.executors.ownership import change_owner

SOMEBODY = (54321, 54322)


class Engine:
    """A client that keeps what it is asked to run; `lacks` are commands that fail."""

    def __init__(self, *lacks: str) -> None:
        self.ran: list[str] = []
        self.containers = SimpleNamespace(run=self.run)
        self.lacks = lacks

    def run(self, _image: str, command: list[str], **options: object) -> None:
        assert options["labels"] == {"a": "label"}
        assert options["user"] == "0:0"
        assert options["network_mode"] == "none"
        (program,) = options["entrypoint"]  # type: ignore[misc]
        if program in self.lacks:
            raise APIError(f"{program}: executable file not found")
        self.ran.append(" ".join([program, command[0], *command[-2:]]))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "file").touch()
    return tmp_path


def give(engine, folder, owner=SOMEBODY):
    change_owner(engine, "image", folder, owner, {"a": "label"})
    return engine.ran


def test_nothing_is_run_for_what_is_the_owners_already(folder):
    assert give(Engine(), folder, (os.getuid(), os.getgid())) == []
    assert give(Engine(), folder / "gone") == []


def test_chown_hands_back(folder):
    assert give(Engine(), folder) == ["chown -hR 54321:54322 /handed"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_one_deep_file_of_another_is_enough(folder):
    os.chown(folder / "one" / "two" / "file", *SOMEBODY)
    assert len(give(Engine(), folder, (os.getuid(), os.getgid()))) == 1


def test_python_stands_in_for_chown(folder):
    assert give(Engine("chown"), folder) == ["python3 -c 54321:54322 /handed"]
    assert give(Engine("chown", "python3"), folder) == ["python -c 54321:54322 /handed"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_the_stand_in_gives_everything_and_follows_no_link(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (folder / "link").symlink_to(outside)
    words = [sys.executable, "-c", ownership._SCRIPT, "54321:54322", str(folder)]
    subprocess.run(words, check=True)
    everything = [folder, *folder.rglob("*")]
    assert len(everything) == 5
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in everything} == {SOMEBODY}
    assert outside.stat().st_uid == os.getuid()


def test_an_image_that_can_do_neither_is_said(folder, caplog):
    assert give(Engine("chown", "python3", "python"), folder) == []
    assert f"files in {folder} belong to another user" in caplog.text

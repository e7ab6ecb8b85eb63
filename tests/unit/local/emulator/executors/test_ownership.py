import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from local.emulator.executors.ownership import change_owner

OTHER = (54321, 54322)


class FakeChownClient:
    """A client whose containers run nothing, or run Python in this process.

    Args:
        lacks: commands missing from the image.
        runs: whether Python is really run.
    """

    def __init__(self, *lacks: str, runs: bool = False) -> None:
        self.ran: list[str] = []
        self.userns_modes: list[str | None] = []
        self.containers = SimpleNamespace(run=self.run)
        self.lacks, self.runs = lacks, runs

    def run(self, _image: str, command: list[str], **options: Any) -> None:
        assert options["labels"] == {"a": "label"}
        assert options["user"] == "0:0"
        assert options["network_mode"] == "none"
        self.userns_modes.append(options.get("userns_mode"))
        (program,) = options["entrypoint"]
        if program in self.lacks:
            raise APIError(f"{program}: executable file not found")
        self.ran.append(" ".join([program, command[0], *command[-2:]]))
        if self.runs:
            (mount,) = options["mounts"]
            arguments = [*command[:-1], mount["Source"]]
            subprocess.run([sys.executable, *arguments], check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "one" / "two" / "file").touch()
    return tmp_path


def give(engine: FakeChownClient, folder: Path, owner: tuple[int, int] = OTHER) -> list[str]:
    change_owner(engine, "image", folder, owner, {"a": "label"})
    return engine.ran


def test_no_container_runs_if_the_owner_is_already_right(folder: Path) -> None:
    assert give(FakeChownClient(), folder, (os.getuid(), os.getgid())) == []
    assert give(FakeChownClient(), folder / "gone") == []


def test_chown_changes_the_owner(folder: Path) -> None:
    assert give(FakeChownClient(), folder) == ["chown -hR 54321:54322 /handed"]


@pytest.mark.parametrize(
    ("security", "given", "userns_mode"),
    [
        (["name=seccomp,profile=default", "name=cgroupns"], "54321:54322", None),
        (["name=seccomp,profile=default", "name=rootless"], "0:0", None),
        (["name=userns"], "54321:54322", "host"),
    ],
)
def test_engines_with_other_user_ids(
    folder: Path, security: list[str], given: str, userns_mode: str | None
) -> None:
    engine = FakeChownClient()
    change_owner(engine, "image", folder, OTHER, {"a": "label"}, security)
    assert engine.ran == [f"chown -hR {given} /handed"]
    assert engine.userns_modes == [userns_mode]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_single_nested_file_of_another_owner_is_found(folder: Path) -> None:
    os.chown(folder / "one" / "two" / "file", *OTHER)
    assert len(give(FakeChownClient(), folder, (os.getuid(), os.getgid()))) == 1


def test_python_replaces_a_missing_chown(folder: Path) -> None:
    assert give(FakeChownClient("chown"), folder) == ["python3 -c 54321:54322 /handed"]
    assert give(FakeChownClient("chown", "python3"), folder) == ["python -c 54321:54322 /handed"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_the_replacement_changes_everything_and_follows_no_link(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (folder / "link").symlink_to(outside)
    give(FakeChownClient("chown", runs=True), folder)
    everything = [folder, *folder.rglob("*")]
    assert len(everything) == 5
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in everything} == {OTHER}
    assert outside.stat().st_uid == os.getuid()


def test_an_image_without_chown_and_python_is_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert give(FakeChownClient("chown", "python3", "python"), folder) == []
    assert f"files in {folder} belong to another user" in caplog.text

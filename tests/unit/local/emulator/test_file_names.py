from collections.abc import Callable
from pathlib import Path

import pytest

from local.emulator import file_names as subject
from local.emulator.aws.logs.store import LogStore
from local.emulator.executors.process_registry import ProcessRegistry
from local.emulator.file_names import as_on_disk, file_name, ignores_case
from local.emulator.home import Home


@pytest.fixture
def ignoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a case-insensitive disk."""
    monkeypatch.setattr(subject, "ignores_case", lambda _path: True)


def test_names_are_unchanged_on_a_case_sensitive_disk(tmp_path: Path) -> None:
    (tmp_path / "Cat").mkdir()
    assert not ignores_case(tmp_path / "Cat")
    assert file_name(tmp_path / "Cat", "Tiger") == "Tiger"
    (tmp_path / "cAT").mkdir()
    assert not ignores_case(tmp_path / "Cat"), "two folders"
    assert not ignores_case(tmp_path / "1234" / "none")


def test_a_link_that_differs_only_in_case_is_the_same_folder(tmp_path: Path) -> None:
    """A case-insensitive disk looks like this."""
    (tmp_path / "Cat").mkdir()
    (tmp_path / "cAT").symlink_to("Cat")
    assert ignores_case(tmp_path / "Cat")
    (tmp_path / "Cat" / "12").mkdir()
    assert ignores_case(tmp_path / "Cat" / "12"), "its own name has no letters"


@pytest.mark.usefixtures("ignoring")
def test_names_differ_in_more_than_case_on_a_case_insensitive_disk(tmp_path: Path) -> None:
    names = [file_name(tmp_path, name) for name in ("tiger", "Tiger", "TIGER")]
    assert names[0] == "tiger"
    assert len({name.lower() for name in names}) == 3
    assert names[1].startswith("Tiger-")


def in_jobs(home: Home) -> Path:
    for name in ("tiger", "Tiger"):
        home.job("training-job", name).mkdir(parents=True)
    return home.job("training-job", "")


def in_log_groups(home: Home) -> Path:
    logs = LogStore(home.logs)
    for name in ("tiger", "Tiger"):
        logs.create_group("us-east-1", name, {})
    return logs.group("us-east-1", "tiger").folder.parent


def in_log_streams(home: Home) -> Path:
    logs = LogStore(home.logs)
    logs.create_group("us-east-1", "group", {})
    for name in ("tiger", "Tiger"):
        logs.create_stream("us-east-1", "group", name)
    return logs.group("us-east-1", "group").folder


def in_processes(home: Home) -> Path:
    for name in ("tiger", "Tiger"):
        ProcessRegistry(home).add(name, 1)
    return home.processes


@pytest.mark.usefixtures("ignoring")
@pytest.mark.parametrize("store", [in_jobs, in_log_groups, in_log_streams, in_processes])
def test_stored_names_that_differ_in_case_get_distinct_files(
    store: Callable[[Home], Path], tmp_path: Path
) -> None:
    home = Home.find(tmp_path / "home")
    home.logs.mkdir()
    names = [path.name.lower() for path in store(home).iterdir() if "iger" in path.name]
    assert len(names) == len(set(names)) == 2


@pytest.mark.usefixtures("ignoring")
def test_a_home_has_one_path_and_one_id(tmp_path: Path) -> None:
    (tmp_path / "Application Support").mkdir()
    home = Home.find(tmp_path / "Application Support" / "berth")
    other = Home.find(tmp_path / "application support" / "Berth")
    assert (other.path, other.id) == (home.path, home.id)
    assert as_on_disk(tmp_path / "APPLICATION SUPPORT" / "none") == (
        tmp_path / "Application Support" / "none"
    )

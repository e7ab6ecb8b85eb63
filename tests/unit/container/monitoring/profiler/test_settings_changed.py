"""A profiler's configuration that changes while the job runs."""

import json
from pathlib import Path

import pytest

from container.monitoring.profiler.settings import ConfigFile


def test_changes_take_effect(tmp_path: Path) -> None:
    path, said = tmp_path / "profilerconfig.json", list[str]()
    path.write_text(json.dumps({"ProfilingIntervalInMilliseconds": 500}))
    config = ConfigFile(path, 0.5, said.append)
    assert not config.changed()
    path.write_text(json.dumps({"profilingIntervalInMilliseconds": "100"}))
    assert config.changed()
    assert (config.interval, config.off) == (0.1, False)
    assert not config.changed()
    path.write_text(json.dumps({"DisableProfiler": True}))
    assert config.changed()
    assert config.off
    path.write_text(json.dumps({"DisableProfiler": "false"}))
    assert config.changed()
    assert (config.interval, config.off) == (0.1, False)
    assert len(said) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ProfilingIntervalInMilliseconds": 3}'])
def test_an_invalid_file_changes_nothing_and_is_reported_once(tmp_path: Path, text: str) -> None:
    path, said = tmp_path / "profilerconfig.json", list[str]()
    config = ConfigFile(path, 0.5, said.append)
    assert not config.changed()
    path.write_text(text)
    assert not config.changed()
    assert not config.changed()
    assert (config.interval, config.off) == (0.5, False)
    (line,) = said
    assert str(path) in line


def test_a_new_file_takes_effect(tmp_path: Path) -> None:
    config = ConfigFile(tmp_path / "file", 0.5, lambda _: None)
    (tmp_path / "file").write_text('{"ProfilingIntervalInMilliseconds": 1000}')
    assert config.changed()
    assert config.interval == 1.0
    (tmp_path / "file").unlink()
    assert not config.changed()
    assert not ConfigFile(None, 0.5, print).changed()

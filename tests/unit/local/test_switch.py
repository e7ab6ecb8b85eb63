import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from local.cli import app
from local.emulator import daemon


@dataclass(frozen=True)
class Running:
    url: str
    executor: str
    home: str


def test_up_prints_what_a_shell_evaluates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def up(home: Any, **options: Any) -> Running:
        asked.append((home.path, options))
        return Running("http://127.0.0.1:4585", "process", str(home.path))

    monkeypatch.setattr(daemon, "up", up)
    words = ["up", "--port", "4585", "--executor", "process", "--home", str(tmp_path / "home")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert asked == [(tmp_path / "home", {"port": 4585, "executor": "process"})]
    assert "http://127.0.0.1:4585, executor process" in done.stderr
    exported = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {words[0] for words in exported} == {"export"}
    assert dict(words[1].split("=", 1) for words in exported) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4585",
        "AWS_ACCESS_KEY_ID": "berth",
        "AWS_SECRET_ACCESS_KEY": "berth",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.mark.parametrize(
    ("ran", "line"),
    [(True, "berth: down; what it knows is kept"), (False, "berth: it was not running")],
)
def test_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, ran: bool, line: str) -> None:
    monkeypatch.setattr(daemon, "down", lambda _home: ran)
    done = CliRunner().invoke(app, ["down", "--home", str(tmp_path)])
    assert done.stdout == f"{line}\n"

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from local.cli import app
from local.emulator import daemon
from local.emulator.credentials import credentials
from local.emulator.home import Home


@dataclass(frozen=True)
class Running:
    url: str
    executor: str
    home: str


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the AWS account of the user who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def test_up_prints_exports_for_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    key = credentials(Home(tmp_path / "home"))
    assert exported(done.stdout) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4585",
        "AWS_ACCESS_KEY_ID": key.key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(tmp_path / "home" / "sagemaker.yaml"),
    }
    monkeypatch.setattr(daemon, "running", up)
    again = CliRunner().invoke(app, ["env", "--home", str(tmp_path / "home")])
    assert (again.exit_code, again.stdout) == (0, done.stdout)
    assert str(tmp_path / "home" / "warm-pool-cache") in again.stderr


def exported(lines: str) -> dict[str, str]:
    words = [shlex.split(line) for line in lines.splitlines()]
    assert {first for first, *_ in words} == {"export"}
    return dict(assigned.split("=", 1) for _, assigned in words)


def test_variables_of_another_account_are_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = Running("http://127.0.0.1:4585", "process", str(tmp_path))
    monkeypatch.setattr(daemon, "running", lambda _home: there)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "theirs")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://elsewhere")
    done = CliRunner().invoke(app, ["env", "--home", str(tmp_path / "home")])
    assert done.stdout.splitlines()[-1] == "unset AWS_REGION AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3"


def test_env_fails_if_the_server_is_not_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(daemon, "running", lambda _home: None)
    done = CliRunner().invoke(app, ["env", "--home", str(tmp_path / "home")])
    assert done.exit_code != 0
    assert "berth up" in str(done.exception)


@pytest.mark.parametrize(
    ("ran", "line"),
    [(True, "berth: stopped; its data is kept"), (False, "berth: not running")],
)
def test_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, ran: bool, line: str) -> None:
    monkeypatch.setattr(daemon, "down", lambda _home: ran)
    done = CliRunner().invoke(app, ["down", "--home", str(tmp_path)])
    assert done.stdout == f"{line}\n"

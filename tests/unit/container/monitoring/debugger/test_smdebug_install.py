import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from container.errors import DataError
from container.monitoring.debugger.smdebug_install import IMPLEMENTATION, INSTALL, SMDEBUG, prepare

ROOT = Path(__file__).resolve().parents[5]
RULE = "from smdebug.rules.rule import Rule; from smdebug.trials import create_trial"
PREPARED = "from container.monitoring.debugger.smdebug_install import prepare; prepare(); "


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    if not variables:
        environment.pop(IMPLEMENTATION, None)
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_smdebug_is_imported_with_the_installed_protobuf() -> None:
    done = python(PREPARED + RULE)
    assert (done.returncode, done.stderr) == (0, "")


def test_child_processes_can_import_smdebug() -> None:
    done = python(
        PREPARED + "import subprocess, sys; "
        f"sys.exit(subprocess.run([sys.executable, '-W', 'ignore', '-c', {RULE!r}]).returncode)"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_variable_is_enough_for_other_programs() -> None:
    assert python(RULE, **{IMPLEMENTATION: "python"}).returncode == 0


def test_a_protobuf_imported_earlier_is_named() -> None:
    done = python("import google.protobuf.descriptor; " + PREPARED, **{IMPLEMENTATION: "upb"})
    assert "DataError: debugger: found protobuf's implementation 'upb'" in done.stderr
    assert f"{IMPLEMENTATION}=python" in done.stderr


def test_a_missing_smdebug_is_one_line_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match="found no smdebug in .*, expected it there") as caught:
        prepare()
    assert str(caught.value).endswith(INSTALL)
    assert "\n" not in str(caught.value)


def test_the_command_installs_the_images_version() -> None:
    assert SMDEBUG in (ROOT / "docker" / "no-deps.txt").read_text().splitlines()
    assert SMDEBUG in (ROOT / "docker" / "requirements.txt").read_text().splitlines()

"""`make setup` on machines that lack something: one message, before anything is downloaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WORDS = ("bash", "cat", "dirname", "mktemp", "rm")
SYSTEMS = ("Debian, Ubuntu:", "Fedora:", "macOS:")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with a shell's words and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for word in WORDS:
        found = shutil.which(word)
        assert found is not None
        (folder / word).symlink_to(found)
    return folder


def program(path: Path, name: str, script: str) -> None:
    (path / name).write_text(f"#!{path}/bash\n{script}\n")
    (path / name).chmod(0o755)


def setup(path: Path, tmp_path: Path, python: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "PYTHON")}
    return subprocess.run(
        [
            str(path / "bash"),
            str(ROOT / "docker" / "setup.sh"),
            str(tmp_path / "venv"),
            "all",
            "3 GB",
        ],
        env={**kept, "PATH": str(path), "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], tmp_path: Path) -> str:
    """What was found, of a message that says what to install everywhere."""
    assert done.returncode == 1
    assert done.stdout.startswith("setup: downloads 3 GB")
    assert all(system in done.stderr for system in SYSTEMS)
    assert not (tmp_path / "venv").exists()
    return done.stderr.splitlines()[0]


def test_no_python(path: Path, tmp_path: Path) -> None:
    assert "no python3" in refused(setup(path, tmp_path), tmp_path)


def test_a_python_too_old_or_too_new(path: Path, tmp_path: Path) -> None:
    program(path, "python3", '[ "$1" = --version ] && { echo Python 3.14.0; exit 0; }; exit 1')
    assert "Python 3.14.0" in refused(setup(path, tmp_path), tmp_path)
    assert "Python 3.14.0" in refused(setup(path, tmp_path, "python3"), tmp_path)


def test_no_compiler(path: Path, tmp_path: Path) -> None:
    program(path, "python3.12", f'exec {sys.executable} "$@"')
    assert "no C compiler" in refused(setup(path, tmp_path), tmp_path)


def test_a_compiler_that_makes_no_program(path: Path, tmp_path: Path) -> None:
    program(path, "cc", "cat >/dev/null; exit 1")
    found = refused(setup(path, tmp_path, sys.executable), tmp_path)
    assert "no C compiler" in found


def test_the_first_python_that_starts_is_taken(path: Path, tmp_path: Path) -> None:
    """A version manager's shim for 3.13 is there and does not start."""
    program(path, "python3.13", "echo no such version >&2; exit 127")
    program(
        path, "python3.11", f'[ "$1" = -m ] && {{ echo "$@"; exit 3; }}; exec {sys.executable} "$@"'
    )
    program(path, "cc", "cat >/dev/null")
    done = setup(path, tmp_path)
    assert done.returncode == 3
    assert f"-m venv {tmp_path / 'venv'}" in done.stdout

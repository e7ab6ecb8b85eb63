"""Virtual environments for clients that cannot be installed in the tests' own."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

DONE = "complete"
"""Name of the file that marks a complete environment."""


class EnvironmentMissing(Exception):
    """An environment's packages could not be installed."""


def environment(requirements: Path, cache: Path) -> Path:
    """Create a virtual environment for a requirements file, or reuse it, and return its python.

    It is created again when the file or the interpreter changes. pip uses the user's
    configuration. Concurrent callers wait for the one that creates the environment.

    Args:
        requirements: the requirements file, every package at one version.
        cache: a folder for environments.

    Raises:
        EnvironmentMissing: pip could not install the packages.
    """
    made_of = f"{sys.version} {sys.base_prefix}\n{requirements.read_text()}"
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    root = cache / f"{requirements.stem}-{digest}"
    python = root / "bin" / "python"
    with (cache / f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / DONE).exists():
            shutil.rmtree(root, ignore_errors=True)
            _make(root, python, requirements)
            (root / DONE).touch()
    return python


def _make(root: Path, python: Path, requirements: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--progress-bar", "off", "-r", str(requirements)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = errors or done.stderr.strip().splitlines()[-1:]
        raise EnvironmentMissing(
            f"{requirements.name}: pip could not install it: {' '.join(said)}; install it with "
            f"pip's configuration of this machine, or run where its packages can be had"
        )

"""What `make quick` runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_quick_tests_are_those_that_start_nothing() -> None:
    chosen = ("tests/unit/local/emulator/test_daemon.py", "tests/unit/container/test_cpus.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not slow", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    collected = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert collected == {"tests/unit/container/test_cpus.py"}, done.stdout

"""What `make quick` runs, and what starts as a fork."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_quick_tests_are_those_that_start_nothing() -> None:
    chosen = ("tests/unit/local/emulator/test_daemon.py", "tests/unit/serve/test_settings.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not slow", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    collected = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert collected == {"tests/unit/serve/test_settings.py"}, done.stdout


@pytest.mark.parametrize(
    ("name", "same"),
    [("TORCH_NCCL_ASYNC_ERROR_HANDLING", True), ("RANK", True), ("OMP_NUM_THREADS", False)],
)
def test_a_rank_with_what_torchrun_sets_starts_as_a_fork(name: str, same: bool) -> None:
    client = runpy.run_path(str(ROOT / "tests" / "preloaded" / "sitecustomize.py"))
    found = [client["read_at_import"](environment) for environment in ({}, {name: "1"})]
    assert (found[0] == found[1]) == same

"""The demo: `python -m local.demo`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(1900)
def test_demo_trains_serves_and_predicts(tmp_path: Path, preloaded: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.demo", "--folder", str(tmp_path / "demo")],
        env=os.environ | preloaded,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (found,) = (tmp_path / "demo" / "training").rglob("evaluation.json")
    assert json.loads(found.read_text())["accuracy"] >= 0.9
    assert (tmp_path / "demo" / "tuning" / "tuning.html").exists()
    for shown in ("berth tune", "precision", "prediction", "test accuracy", "of 10 right"):
        assert shown in done.stdout

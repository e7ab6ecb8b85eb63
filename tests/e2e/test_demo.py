"""The command a newcomer types first."""

import json
import subprocess
import sys


def test_demo_trains_serves_and_predicts(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "local.demo", "--folder", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "demo" / "output" / "data" / "evaluation.json").read_text())
    assert report["accuracy"] >= 0.96
    for shown in ("precision", "prediction", "test accuracy", "of 10 right"):
        assert shown in done.stdout

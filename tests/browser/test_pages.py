"""The HTML pages in a real browser that has no network.

They are skipped where there is no Chromium; with CI=true that is a failure.
"""

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.pages.job_page import write_report_page
from local.pages.tuning_page import write_page
from local.results.tuning_trials import Trial
from tests.requirements import missing
from tests.unit.local.fake_tuning import trial, tuning_job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EVIL = """<img src=x onerror="document.body.id='owned'"></script><script>document.body.id='owned'"""
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

Show = Callable[[Path], str]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """What a page has become once its scripts have run; it must have complained of nothing."""
    if BROWSER is None:
        missing("no chromium on PATH")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-dev-shm-usage --virtual-time-budget=3000 --enable-logging=stderr --dump-dom"
    )

    def run(page: Path) -> str:
        done = subprocess.run(
            [
                BROWSER,
                *flags.split(),
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={tmp_path / 'profile'}",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return run


def test_a_search_is_drawn(show: Show, tmp_path: Path) -> None:
    entries = [
        trial(n, "Completed", value, **{EVIL: f"0.0{n}"}, epochs=str(n + 1), batch_size="32")
        for n, value in ((1, 0.7), (2, 0.8), (3, 0.9))
    ]
    job = tuning_job(rate=EVIL)
    job["HyperParameterTuningJobName"] = EVIL
    page = tmp_path / "tuning.html"
    write_page(job, [Trial.read(entry) for entry in entries], page)
    shown = show(page)
    assert len(re.findall(r'<svg class="main-svg"[^>]*>', shown)) >= 3
    assert 'class="points"' in shown  # the history and the bars
    assert 'class="parcoords' in shown or "parcoords-line-layers" in shown
    assert "owned" in shown  # as text
    assert not re.search(r"<body[^>]*owned", shown)


def test_a_report_is_shown(show: Show, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    (folder / "output").mkdir(parents=True)
    (folder / "output" / "curves.png").write_bytes(PIXEL)
    job: dict[str, Any] = {
        "TrainingJobName": EVIL,
        "TrainingJobStatus": "Failed",
        "FailureReason": EVIL,
        "HyperParameters": {EVIL: EVIL},
    }
    shown = show(write_report_page(job, folder))
    assert "Loss, accuracy and learning rate" in shown
    assert not re.search(r"<body[^>]*owned", shown)
    assert "<script" not in shown

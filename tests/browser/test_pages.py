"""The pages of training jobs and tuning jobs in a real, offline browser.

The tests are skipped without Chromium; with CI=true they fail instead.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.pages.job_page import write_report_page
from local.pages.tuning_page import write_page
from local.results.tuning_trials import Trial
from tests.browser.devtools import BROWSER, Page, page
from tests.requirements import missing
from tests.unit.local.fake_tuning import trial, tuning_job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EVIL = """<img src=x onerror="document.body.id='owned'"></script><script>document.body.id='owned'"""
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if BROWSER is None:
        missing("no chromium on PATH")
    with page(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def show(browser: Page) -> Iterator[Page]:
    """A page on a wide screen; it must log and fetch nothing and run no injected script."""
    browser.look()
    yield browser
    assert browser.complaints == []
    assert {each.partition(":")[0] for each in browser.requests} <= {"file", "data", "blob"}
    assert browser.ask("document.body.id") == ""


def test_the_charts_of_a_tuning_job_are_drawn(show: Page, tmp_path: Path) -> None:
    entries = [
        trial(n, "Completed", value, **{EVIL: f"0.0{n}"}, epochs=str(n + 1), batch_size="32")
        for n, value in ((1, 0.7), (2, 0.8), (3, 0.9))
    ]
    job = tuning_job(rate=EVIL)
    job["HyperParameterTuningJobName"] = EVIL
    written = tmp_path / "tuning.html"
    write_page(job, [Trial.read(entry) for entry in entries], written)
    show.open(written)
    drawn = "document.querySelectorAll('#{} .{} path').length"
    assert show.ask(drawn.format("history", "points")) == 3
    assert show.ask(drawn.format("coordinates", "lines")) >= 3
    assert show.ask(drawn.format("importance", "points")) == 3
    assert show.ask("document.querySelector('h1').innerText") == EVIL
    line = "getComputedStyle(document.querySelector('#coordinates .lines path')).stroke"
    light = show.ask(line)
    show.look(dark=True)
    show.wait(f"{line} !== {light!r}", seconds=10)


def test_the_report_of_a_failed_job_is_shown(show: Page, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    (folder / "output").mkdir(parents=True)
    (folder / "output" / "curves.png").write_bytes(PIXEL)
    job: dict[str, Any] = {
        "TrainingJobName": EVIL,
        "TrainingJobStatus": "Failed",
        "FailureReason": EVIL,
        "HyperParameters": {EVIL: EVIL},
    }
    show.open(write_report_page(job, folder))
    assert show.ask("document.querySelector('h1').innerText") == EVIL
    assert show.ask("document.querySelector('.failure').innerText") == EVIL
    assert show.ask("document.querySelector('img').naturalWidth") == 1
    assert show.ask("document.scripts.length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_the_width_of_a_phone(show: Page, tmp_path: Path, dark: bool) -> None:
    written = tmp_path / "tuning.html"
    entries = [trial(n, "Completed", n / 9, learning_rate=f"0.0{n}") for n in (1, 2, 3)]
    write_page(tuning_job(), [Trial.read(entry) for entry in entries], written)
    show.look(width=390, dark=dark)
    show.open(written)
    assert show.ask("document.documentElement.scrollWidth") <= 390

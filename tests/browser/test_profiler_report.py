"""The profiler's report in a real, offline browser.

The tests are skipped without Chromium; with CI=true they fail instead.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from container.monitoring.profiler.report import SECTIONS, write_report
from tests.browser.devtools import BROWSER, Page, page
from tests.requirements import missing
from tests.unit.container.monitoring.profiler.folders import busy_host, write_berth, write_operators
from tests.unit.container.monitoring.profiler.recorded import fired

EVIL = """<img src=x onerror="document.body.id='owned'"></script><script>document.body.id='owned'"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a job with two GPUs, some slow steps, and names that contain scripts."""
    folder = tmp_path_factory.mktemp("profile")
    host = busy_host(points=400, gpus=2, steps=300)
    host.steps = [5 * step if n % 20 == 7 else step for n, step in enumerate(host.steps)]
    write_berth(folder, host, job={"job": EVIL}, epochs=6)
    write_operators(folder / "data" / "profiler")
    rules = [fired("DeadRelu", EVIL, steps=[120]), fired(EVIL, EVIL)]
    (folder / "data" / "rules" / "debug.json").write_text(json.dumps(rules))
    return write_report(folder, folder / "report").page


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, report: Path) -> Iterator[Page]:
    """The report on a wide screen; tests share it, as opening takes seconds."""
    if BROWSER is None:
        missing("no chromium on PATH")
    with page(tmp_path_factory.mktemp("browser")) as found:
        found.look()
        found.open(report)
        yield found


@pytest.fixture
def show(opened: Page) -> Iterator[Page]:
    """The opened report; it must log and fetch nothing and run no injected script."""
    yield opened
    assert opened.complaints == []
    assert {each.partition(":")[0] for each in opened.requests} <= {"file", "data", "blob"}
    assert opened.ask("document.body.id") == ""
    opened.look()


def drawn(screen: Page) -> int:
    """The number of charts with plotted data."""
    return int(
        screen.ask(
            "[...document.querySelectorAll('.plot')].filter(p => p.querySelector("
            "'.scatterlayer path, .heatmaplayer image, .barlayer path, .boxlayer path')).length"
        )
    )


def widths(screen: Page) -> tuple[int, int]:
    found = screen.ask("[document.documentElement.scrollWidth, innerWidth]")
    return found[0], found[1]


def test_every_section_and_chart_is_shown(show: Page) -> None:
    for anchor, title, _ in SECTIONS:
        said = show.ask(f"document.getElementById({anchor!r}).innerText")
        assert title in said
        assert len(said) > len(title) + 20
    charts = show.ask("document.querySelectorAll('figure.chart').length")
    assert charts >= 15
    assert drawn(show) == charts
    assert show.ask("document.querySelector('h1').innerText") == EVIL
    assert show.ask("document.querySelectorAll('.broken').length") == 0


def test_charts_follow_the_colour_scheme(show: Page) -> None:
    line = (
        "getComputedStyle(document.querySelector('#utilisation .scatterlayer path.js-line')).stroke"
    )
    ink = "getComputedStyle(document.body).color"
    light = show.ask(line), show.ask(ink)
    show.look(dark=True)
    show.wait(f"{line} !== {light[0]!r}", seconds=10)
    assert show.ask(ink) != light[1]
    show.look()
    show.wait(f"{line} === {light[0]!r}", seconds=10)


@pytest.mark.parametrize(
    ("rule", "chart"), [("StepOutlier", "utilisation"), ("DeadRelu", "curve-loss")]
)
def test_a_rules_link_shows_the_moment_it_fired(show: Page, rule: str, chart: str) -> None:
    show.ask(f"document.querySelector('details[id$={rule}] .moments a').click()")
    label = f"document.querySelector('#{chart} .annotation-text').closest('.infolayer')"
    show.wait(f"{label}.textContent.includes({rule!r})", seconds=10)
    box = f"document.getElementById({chart!r}).getBoundingClientRect()"
    show.wait(f"{box}.top < innerHeight && {box}.bottom > 0", seconds=10)


def test_the_report_can_be_printed(show: Page, tmp_path: Path) -> None:
    show.look(dark=True, media="")
    show.paper(tmp_path / "report.pdf")
    found = (tmp_path / "report.pdf").read_bytes()
    assert found.startswith(b"%PDF")
    assert found.count(b"/Type /Page\n") >= 5
    assert show.ask("document.documentElement.classList.contains('printing')") is False


def test_the_report_fits_the_width_of_a_phone(show: Page, report: Path) -> None:
    show.look(width=390)
    show.open(report)
    for dark in (False, True):
        show.look(width=390, dark=dark)
        assert widths(show) == (390, 390)
        assert show.ask(
            "[...document.querySelectorAll('.plot .main-svg')]"
            ".every(s => s.getBoundingClientRect().right <= innerWidth)"
        )


def test_the_report_of_an_empty_job_says_that_nothing_was_recorded(
    show: Page, tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir()
    empty = write_report(tmp_path / "job", tmp_path / "report").page
    show.look(width=390)
    show.open(empty)
    assert widths(show)[0] <= 390
    assert "Nothing was recorded" in show.ask("document.querySelector('.verdict').innerText")

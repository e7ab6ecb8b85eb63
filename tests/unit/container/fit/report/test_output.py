import json
from pathlib import Path

from PIL import Image

from container.fit.budget import TimeBudget
from container.fit.choices import Choice
from container.fit.leaderboard import Leaderboard
from container.fit.report.output import write_fit
from container.fit.state import FitState
from local.results.fit import read_fit
from tests.unit.container.fit.test_budget import Clock
from tests.unit.container.fit.test_leaderboard import probe, tuned


def found(learning: dict[str, object]) -> FitState:
    return FitState(
        board=Leaderboard([probe(80, 12), tuned(85, seconds=60)]),
        choices=[Choice("this", "that")],
        points=[
            {"minutes": 0.2, "accuracy": 0.8, "name": "probe $x$"},
            {"minutes": 1.0, "accuracy": 0.85, "name": "fine-tuned"},
        ],
        learning=learning,
    )


def write(folder: Path, learning: dict[str, object]) -> None:
    clock = Clock()
    budget = TimeBudget(120, clock=clock)
    clock.now += 90
    write_fit(found(learning), budget, folder)


def test_the_page_reads_the_written_report(tmp_path: Path) -> None:
    write(tmp_path, {"no_curve": "too few images", "advice": "more"})
    report = read_fit(tmp_path / "fit.json")
    assert (report.minutes, report.used_minutes) == (2, 1.5)
    assert [(each.name, each.chosen) for each in report.leaderboard] == [
        ("fine-tuned resnet18 at 224 px", True),
        ("probe resnet18 at 224 px", False),
    ]
    assert report.no_curve == "too few images"
    assert report.choices[0].why == "that"
    stored = json.loads((tmp_path / "fit.json").read_text())
    assert [point["accuracy"] for point in stored["by_minute"]] == [0.8, 0.85]


def test_the_learning_curve_is_a_second_picture_beside_the_first(tmp_path: Path) -> None:
    write(tmp_path, {})
    with Image.open(tmp_path / "fit.png") as one:
        alone = one.width
    curve = {
        "images": [50, 100, 200],
        "accuracies": [0.7, 0.8, 0.85],
        "doubled": 0.9,
        "factor": 2.0,
        "exponent": 0.5,
    }
    write(tmp_path, {"curve": curve})
    with Image.open(tmp_path / "fit.png") as both:
        assert both.width > 1.5 * alone

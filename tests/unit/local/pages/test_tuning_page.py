import json
import re
from typing import Any

import pytest

from local.pages.tuning_page import page
from local.results.tuning_trials import Trial
from tests.unit.local.fake_tuning import trial, tuning_job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ENTRIES = [
    trial(1, "Completed", 0.7, learning_rate="0.01", epochs="2", batch_size="32"),
    trial(2, "Completed", 0.8, learning_rate="0.02", epochs="3", batch_size='"64"'),
    trial(3, "Failed", None, learning_rate="0.1", epochs="4", batch_size="64"),
    trial(4, "Completed", 0.9, learning_rate="0.003", epochs="4", batch_size="32"),
]


def drawn(entries: list[dict[str, Any]], job: dict[str, Any] | None = None) -> str:
    return page(job or tuning_job(), [Trial.read(entry) for entry in entries])


def charts(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_whole_page() -> None:
    text = drawn(ENTRIES)
    for heading in (
        "Best trial",
        "Optimisation history",
        "Parallel coordinates",
        "Importance",
        "Trials",
    ):
        assert f"<h2>{heading}</h2>" in text
    found = charts(text)
    assert list(found) == ["history", "coordinates", "importance"]
    for fact in ("3 trials completed", "1 failed", "0 stopped", "at most 2 in parallel"):
        assert fact in text
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text)
    assert cells.count("search-003") == 1
    assert cells[cells.index("search-003") + 1] == "Failed"
    assert "search-004" in text[text.index("Best trial") : text.index("Optimisation history")]
    history = found["history"]["data"]
    assert history[0]["y"] == [0.7, 0.8, 0.9]
    assert history[0]["x"] == [1, 2, 4]  # the third failed
    lines = [each for each in found["coordinates"]["data"] if each["mode"] == "lines"]
    strengths = {each["y"][0]: each["opacity"] for each in lines}
    assert max(strengths.values()) == strengths[max(strengths)] == 1.0


def test_the_smallest_value_has_the_strongest_colour_if_the_objective_is_minimised() -> None:
    job = tuning_job()
    job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["Type"] = "Minimize"
    data = charts(drawn(ENTRIES, job))["coordinates"]["data"]
    strengths = {each["y"][0]: each["opacity"] for each in data if each["mode"] == "lines"}
    assert strengths[min(strengths)] == 1.0


def test_no_resources_are_loaded() -> None:
    text = drawn(ENTRIES)
    assert not re.search(r"<script[^>]*\ssrc", text)
    assert not re.search(r"<(link|img|iframe)\b", text)
    assert "default-src &#39;none&#39;" in text


def test_names_are_escaped() -> None:
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    entries = [
        trial(n, "Completed", value, **{evil: f"0.0{n}"}, epochs=str(n + 1), batch_size="32")
        for n, value in ((1, 0.7), (2, 0.8), (3, 0.9))
    ]
    job = tuning_job(rate=evil)
    job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"] = evil
    job["HyperParameterTuningJobName"] = evil
    text = drawn(entries, job)
    assert "<img" not in text
    assert "<script>alert" not in text
    assert "alert(2)" in text  # it is shown, as text
    assert "<img" not in json.dumps(charts(text))  # Plotly interprets tags in its texts


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "No trial has completed"),
        ([ENTRIES[2]], "No trial has completed"),
        ([ENTRIES[0]], "At least 2 completed trials"),
        ([ENTRIES[0], trial(2, "Completed", 0.7, learning_rate="0.02")], "same objective value"),
        (
            [
                trial(n, "Completed", n / 9, learning_rate="0.01", epochs="2", batch_size="32")
                for n in (1, 2, 3)
            ],
            "All trials have the same hyperparameters",
        ),
    ],
)
def test_too_few_trials_for_a_chart(entries: list[dict[str, Any]], words: str) -> None:
    assert words in drawn(entries)


def test_two_trials_are_enough_for_importance() -> None:
    text = drawn(ENTRIES[:2])
    assert "How much of the objective" in text


def test_values_outside_the_range_are_drawn() -> None:
    outside = trial(5, "Completed", 0.5, learning_rate="5", epochs="9", batch_size="16")
    assert "Optimisation history" in drawn([*ENTRIES, outside])


def test_a_search_of_one_hyperparameter() -> None:
    entries = [trial(n, "Completed", n / 9, epochs=str(n)) for n in (2, 3, 4)]
    assert "Importance" in drawn(entries)

import base64
import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from local.pages.job_page import write_report_page
from tests.unit.local.trained_job import EVIL, FIT, JOB, PNG


class ReadPage(HTMLParser):
    """A page's headings, rows of table cells, links, pictures and text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str | None] = []
        self.pictures: list[str | None] = []
        self.elements: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.elements.append(tag)
        given = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "h2":
            self.headings.append("")
        elif tag == "a":
            self.links.append(given["href"])
        elif tag == "img":
            self.pictures.append(given["src"])

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            return
        self.text += data
        if self._open[-1:] == ["td"]:
            self.rows[-1][-1] += data
        elif self._open[-1:] == ["h2"]:
            self.headings[-1] += data


def test_the_whole_output_of_a_job_is_on_one_page(job_folder: Path) -> None:
    page = ReadPage(write_report_page(JOB, job_folder))
    assert "92.50%" in page.text
    for row in (
        ["cat", "1.000", "0.900", "0.947", "20"],
        ["bfloat16", "92.50%", "92.50%", "97.5%", "0.0310", "40"],
        ["int8", "90.00%", "92.50%", "97.5%", "0.0310", "40"],
        ["2", "0.22222"],
        ["arch", "resnet18"],
        ["validation:accuracy", "0.9"],
        ["output/data/other.png", str(len(PNG))],
    ):
        assert row in page.rows
    for fact in ("1 × ml.m5.large", "berth:latest", "trained 1 min 30 s", "billed 30 s"):
        assert fact in page.text
    assert page.pictures == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"] * 3
    shown = [
        each for each in page.headings if each in ("Confusion matrix", "other") or "Loss" in each
    ]
    assert shown == ["Loss, accuracy and learning rate", "Confusion matrix", "other"]


def test_names_are_escaped_and_no_resources_are_loaded(job_folder: Path) -> None:
    written = write_report_page(JOB | {"FailureReason": EVIL}, job_folder)
    page = ReadPage(written)
    assert page.text.count(EVIL) == 3
    assert len(page.pictures) == 3
    assert "script" not in page.elements
    text = written.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text.replace("&#39;", "'")


def test_a_job_without_output(tmp_path: Path) -> None:
    job = JOB | {"TrainingJobStatus": "Failed", "FailureReason": "no luck"}
    page = ReadPage(write_report_page(job, tmp_path / "first"))
    assert "no luck" in page.text
    assert "no output" in page.text


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"images": 3}', "null", "[" * 5000])
def test_an_invalid_evaluation_does_not_affect_the_rest_of_the_page(
    job_folder: Path, content: str
) -> None:
    (job_folder / "output/data/evaluation.json").write_text(content)
    (job_folder / "output/data/metrics.jsonl").write_text(content)
    page = ReadPage(write_report_page(JOB, job_folder))
    assert "evaluation.json: " in page.text
    assert "validation:accuracy" in page.text
    assert "Confusion matrix" in page.headings


def test_the_profilers_report_is_linked_and_rules_are_listed(job_folder: Path) -> None:
    report = job_folder / "output/data/report/profiler-report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<html>")
    figures = {"verdict": {"sentences": [f"The GPU waits {EVIL}"]}}
    report.with_name("report.json").write_text(json.dumps(figures))
    rules = job_folder / "output/data/rules"
    rules.mkdir()
    status = {"RuleConfigurationName": EVIL, "RuleEvaluationStatus": "IssuesFound"}
    (rules / "debug.json").write_text(json.dumps([status | {"StatusDetails": EVIL}]))
    page = ReadPage(write_report_page(JOB, job_folder))
    assert page.links == ["output/data/report/profiler-report.html"]
    assert f"The GPU waits {EVIL}" in page.text
    assert [EVIL, "debugger", "IssuesFound", EVIL] in page.rows


def test_without_a_profiler_there_is_no_section_on_it(job_folder: Path) -> None:
    assert not {"Profiler", "Rules"} & set(ReadPage(write_report_page(JOB, job_folder)).headings)


def test_interruptions_are_listed(tmp_path: Path) -> None:
    job = JOB | {
        "SecondaryStatusTransitions": [
            {
                "Status": "Interrupted",
                "StatusMessage": "capacity",
                "StartTime": datetime(2026, 1, 2, tzinfo=UTC),
            }
        ]
    }
    headings = ReadPage(write_report_page(job, tmp_path)).headings
    assert [each for each in headings if each.startswith("Interrupted 1")]


def test_the_findings_of_a_fit_job_are_shown(job_folder: Path) -> None:
    (job_folder / "output" / "data" / "fit.json").write_text(
        json.dumps(FIT | {"advice": f"photograph {EVIL}"})
    )
    page = ReadPage(write_report_page(JOB, job_folder))
    assert "Fit: probe resnet18 at 224 px after 4.5 of 5 minutes" in page.headings
    rows = [row for row in page.rows if row and row[0].endswith("resnet18 at 224 px")]
    assert [row[1:3] for row in rows] == [
        ["0.9200", "0.8800 to 0.9500"],
        ["0.9000", "0.7900 to 0.9500"],
    ]
    assert EVIL in page.text
    assert "mirrored images are known as well" in page.text


def test_an_invalid_fit_report_is_named_on_the_page(job_folder: Path) -> None:
    (job_folder / "output" / "data" / "fit.json").write_text("[]")
    assert "not a fit report by berth" in ReadPage(write_report_page(JOB, job_folder)).text

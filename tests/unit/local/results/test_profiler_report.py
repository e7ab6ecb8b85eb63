import json
from pathlib import Path
from typing import Any

import pytest

from local.errors import UserError
from local.results import profiler_report as subject
from local.results.profiler_report import (
    STATUSES,
    find_recording,
    find_report,
    first_sentence,
    make_report,
    parameters_of,
)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_report_made_locally_takes_precedence_over_that_of_the_job(tmp_path: Path) -> None:
    assert find_report(tmp_path) is None
    left = write(tmp_path / "output/data/report/profiler-report.html")
    assert find_report(tmp_path) == left
    anew = write(tmp_path / "report/profiler-report.html")
    assert find_report(tmp_path) == anew


def test_the_recording_is_found(tmp_path: Path) -> None:
    write(tmp_path / "output/data/rules/profiler.json", "[]")
    assert find_recording(tmp_path) is None
    write(tmp_path / "profiler-output/system/incremental/2026010203/1.algo-1.json")
    assert find_recording(tmp_path) == tmp_path / "profiler-output"
    write(tmp_path / "output/data/profiler/job.json", "{}")
    assert find_recording(tmp_path) == tmp_path / "output"


def test_the_first_sentence_of_the_verdict(tmp_path: Path) -> None:
    page = tmp_path / "profiler-report.html"
    assert first_sentence(page) == ""
    figures = {"verdict": {"sentences": ["89 % of the step\n is forward.", "More."]}}
    write(tmp_path / "report.json", json.dumps(figures))
    assert first_sentence(page) == "89 % of the step is forward."


@pytest.mark.parametrize("figures", ["", "[]", "{}", "[" * 100_000, '{"verdict": "x"}'])
def test_another_report_json_has_no_verdict(figures: str, tmp_path: Path) -> None:
    write(tmp_path / "report.json", figures)
    assert first_sentence(tmp_path / "profiler-report.html") == ""


@pytest.mark.parametrize("sentences", [[], [7], {"0": "x"}, None, [["x"]]])
def test_a_verdict_without_text(sentences: Any, tmp_path: Path) -> None:
    write(tmp_path / "report.json", json.dumps({"verdict": {"sentences": sentences}}))
    assert first_sentence(tmp_path / "profiler-report.html") == ""


@pytest.mark.parametrize(
    "told",
    [
        '{"BatchSize_patience": 9, "Overfit_patience": 3, "BatchSize_none": 1, "x": 2}',
        '"{\\"BatchSize_patience\\": 9}"',
    ],
)
def test_a_new_report_uses_the_thresholds_of_the_job(told: str) -> None:
    job = {"HyperParameters": {"rule-parameters": told, "epochs": "3"}}
    assert parameters_of(job) == {"BatchSize_patience": "9"}
    rule = {"rule_to_invoke": "ProfilerReport", "stepoutlier_stddev": "5", "opt_out": "True"}
    job |= {"ProfilerRuleConfigurations": [{"RuleParameters": rule}]}  # type: ignore[dict-item]
    assert parameters_of(job) == {"stepoutlier_stddev": "5", "BatchSize_patience": "9"}


@pytest.mark.parametrize("told", ["", "[]", "{", "7", "[" * 100_000])
def test_invalid_rule_parameters_of_a_job_are_ignored(told: str) -> None:
    assert parameters_of({"HyperParameters": {"rule_parameters": told}}) == {}


def test_with_an_invalid_parameter_no_report_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'patience'"):
        make_report(tmp_path, tmp_path / "into", {"BatchSize_patienc": "3"})
    assert not (tmp_path / "into").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package: "):
        make_report(tmp_path, tmp_path / "into", {})


def test_the_report_of_a_folder_from_aws(tmp_path: Path) -> None:
    lines = [
        {
            "Type": "cpu",
            "Name": "cpu0",
            "Dimension": "CPUUtilization",
            "Value": 50.0,
            "NodeId": "algo-1",
            "Timestamp": 1591160640.0 + n / 2,
        }
        for n in range(20)
    ]
    folder = tmp_path / "profiler-output"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write(folder / "system/incremental/2020060305/1591160700.algo-1.json", text)
    page = make_report(folder, tmp_path / "into", {"CPUBottleneck_patience": "10"})
    assert page == tmp_path / "into" / "profiler-report.html"
    assert first_sentence(page)
    statuses = json.loads((tmp_path / "into" / STATUSES).read_text())
    assert "CPUBottleneck" in {status["RuleConfigurationName"] for status in statuses}
    rule = json.loads((tmp_path / "into/profiler-reports/CPUBottleneck.json").read_text())
    assert str(rule["RuleParameters"]).count("patience") == 1

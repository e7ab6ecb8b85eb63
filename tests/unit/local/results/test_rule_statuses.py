import json
from pathlib import Path
from typing import Any

import pytest

from local.results.rule_statuses import LARGEST, RuleEvaluation, issues, rule_statuses


def entry(name: Any, status: Any, details: Any = "") -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluationStatus": status,
        "StatusDetails": details,
    }


def leave(folder: Path, content: Any, file: str = "debug.json", where: str = "data") -> None:
    path = folder / "output" / where / "rules" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_containers_statuses_take_precedence(tmp_path: Path) -> None:
    leave(tmp_path, [entry("Overfit", "IssuesFound", "fired at step 4\nand more")])
    job = {
        "DebugRuleEvaluationStatuses": [entry("Overfit", "InProgress")],
        "ProfilerRuleEvaluationStatuses": [entry("ProfilerReport", "NoIssuesFound")],
    }
    assert rule_statuses(job, tmp_path) == [
        RuleEvaluation("debugger", "Overfit", "IssuesFound", "fired at step 4"),
        RuleEvaluation("profiler", "ProfilerReport", "NoIssuesFound", ""),
    ]
    assert rule_statuses({}, tmp_path / "elsewhere") == []


def test_a_report_made_locally_takes_precedence_over_the_container(tmp_path: Path) -> None:
    leave(tmp_path, [entry("BatchSize", "NoIssuesFound")], "profiler.json")
    (tmp_path / "report").mkdir()
    anew = json.dumps([entry("BatchSize", "IssuesFound")])
    (tmp_path / "report/profiler-rules.json").write_text(anew)
    assert [status.status for status in rule_statuses({}, tmp_path)] == ["IssuesFound"]


def test_a_line_for_each_rule_that_found_something(tmp_path: Path) -> None:
    leave(
        tmp_path,
        [
            entry("Overfit", "IssuesFound", "fired at step 4"),
            entry("DeadRelu", "NoIssuesFound", "all alive"),
            entry("Mine", "Error", "ZeroDivisionError: division by zero\nTraceback …"),
            entry("Confusion", "Stopped"),
        ],
    )
    report = entry("ProfilerReport", "IssuesFound", "1 of 11 rules fired")
    leave(tmp_path, [report, entry("BatchSize", "IssuesFound")], "profiler.json")
    assert list(issues(rule_statuses({}, tmp_path))) == [
        "Overfit: fired at step 4",
        "Mine Error: ZeroDivisionError: division by zero",
        "BatchSize: no details",
    ]
    leave(tmp_path, [report], "profiler.json")
    assert list(issues(rule_statuses({}, tmp_path)))[-1] == "ProfilerReport: 1 of 11 rules fired"


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", "[" * 100_000, " " * (LARGEST + 1), [1, None, entry(1, "a"), entry("a", 1)]],
    ids=range(6),
)
def test_invalid_statuses_are_left_out(content: Any, tmp_path: Path) -> None:
    leave(tmp_path, content)
    assert rule_statuses({}, tmp_path) == []


def test_control_characters_are_removed(tmp_path: Path) -> None:
    leave(tmp_path, [entry("a\x1b[2Jb", "IssuesFound", "red\x1b[31m\ud800")])
    assert list(issues(rule_statuses({}, tmp_path))) == ["a [2Jb: red [31m?"]

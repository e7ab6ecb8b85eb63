import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.rules import RULES, evaluate, report_parts
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import from_configurations, parse_rules
from tests.unit.container.monitoring.profiler.folders import (
    START,
    Host,
    busy_host,
    constant,
    write_aws,
    write_berth,
)

BOUND = Host(cpu=constant(1200, 99), gpu=constant(1200, 1))


@pytest.fixture
def bound(tmp_path: Path) -> Any:
    return Recording.read(write_aws(tmp_path, BOUND))


def by_name(outcomes: Any) -> Any:
    return {found.request.name: found for found in outcomes}


def test_every_rule_has_an_outcome_in_the_requested_order(tmp_path: Path) -> None:
    recording = Recording.read(write_berth(tmp_path, busy_host()))
    rules = parse_rules(PROFILER_RULES, ["auto"])
    found = evaluate(recording, rules)
    assert [outcome.request for outcome in found] == list(rules)
    fired = {outcome.request.rule for outcome in found if outcome.fired}
    assert fired == {"Dataloader", "ProfilerReport"}  # 2 workers for 4 cores
    assert all(outcome.error is None for outcome in found)
    assert found[-1].reason.startswith("1 of 11 rules fired: Dataloader")
    assert found[-1].reason.endswith("1 had too little to judge")  # one GPU has no load to balance


def test_without_rules_there_are_no_outcomes(bound: Any) -> None:
    assert evaluate(bound, ()) == []


def test_an_empty_recording_has_an_outcome_for_every_rule(tmp_path: Path) -> None:
    found = evaluate(Recording.read(tmp_path), parse_rules(PROFILER_RULES, ["auto"]))
    assert len(found) == len(PROFILER_RULES)
    for outcome in found:
        assert outcome.error is None
        assert not outcome.fired
        assert outcome.reason
        json.dumps(outcome.as_json(), allow_nan=False)


def test_a_report_runs_all_the_others(bound: Any) -> None:
    found = evaluate(bound, parse_rules(PROFILER_RULES, ["ProfilerReport"]))
    assert {outcome.request.rule for outcome in found} == set(PROFILER_RULES)
    assert {outcome.part_of for outcome in found[:-1]} == {"ProfilerReport"}
    report = found[-1]
    assert report.part_of is None
    assert report.details["rules"]["CPUBottleneck"]["triggered"] == 2
    assert report.triggered == 2  # CPUBottleneck and LowGPUUtilization
    assert report.violations == 1202  # 1,200 points, and a GPU at 2 looks


def test_a_report_passes_parameters_to_its_rules(bound: Any) -> None:
    given = {
        "rule_to_invoke": "ProfilerReport",
        "cpubottleneck_CPU_threshold": "99",
        "scan_interval_us": "120000000",
    }
    rules = from_configurations(
        PROFILER_RULES, [{"RuleConfigurationName": "mine", "RuleParameters": given}], "x"
    )
    found = by_name(evaluate(bound, rules))
    assert found["CPUBottleneck"].request.parameters["cpu_threshold"] == 99
    assert found["CPUBottleneck"].request.parameters["gpu_threshold"] == 10
    assert found["CPUBottleneck"].request.parameters["scan_interval_us"] == 120_000_000
    assert found["CPUBottleneck"].part_of == "mine"
    assert not found["CPUBottleneck"].fired
    assert found["LowGPUUtilization"].triggered == 1


def test_a_rule_requested_separately_is_not_run_again_for_the_report(bound: Any) -> None:
    rules = parse_rules(
        PROFILER_RULES, ["CPUBottleneck", "ProfilerReport"], {"CPUBottleneck_threshold": 9}
    )
    found = evaluate(bound, rules)
    (own,) = [outcome for outcome in found if outcome.request.rule == "CPUBottleneck"]
    assert own.part_of is None
    assert own.request.parameters["threshold"] == 9


def test_a_rule_runs_again_if_the_report_has_other_parameters(bound: Any) -> None:
    rules = parse_rules(
        PROFILER_RULES,
        ["CPUBottleneck", "ProfilerReport"],
        {"ProfilerReport_CPUBottleneck_cpu_threshold": 100},
    )
    found = by_name(evaluate(bound, rules))
    assert found["CPUBottleneck"].fired
    assert not found["ProfilerReport-CPUBottleneck"].fired
    assert found["ProfilerReport-CPUBottleneck"].part_of == "ProfilerReport"


def test_a_failing_rule_reports_its_error_and_the_others_continue(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(view: Any, request: Any) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setitem(RULES, "CPUBottleneck", fails)
    found = by_name(
        evaluate(bound, parse_rules(PROFILER_RULES, ["CPUBottleneck", "LowGPUUtilization"]))
    )
    status = found["CPUBottleneck"].status()
    assert status["RuleEvaluationStatus"] == "Error"
    details = status["StatusDetails"].splitlines()
    assert details[0] == "the rule failed: ZeroDivisionError: on purpose"
    assert details[1].startswith("Traceback")
    assert found["LowGPUUtilization"].fired


def test_a_rules_file_has_sagemakers_shape(bound: Any) -> None:
    (found,) = evaluate(bound, parse_rules(PROFILER_RULES, ["CPUBottleneck"]))
    written = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert list(written) == [
        "RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters",
    ]  # fmt: skip
    assert written["RuleTriggered"] == 2
    assert written["Datapoints"] == 1200
    assert written["RuleParameters"].splitlines() == [
        "threshold:50", "gpu_threshold:10", "cpu_threshold:90", "patience:1000",
    ]  # fmt: skip


def test_a_status_has_sagemakers_fields_and_berths(bound: Any) -> None:
    (found,) = evaluate(bound, parse_rules(PROFILER_RULES, ["CPUBottleneck"]))
    status = json.loads(json.dumps(found.status(), allow_nan=False))
    assert status["RuleConfigurationName"] == status["Rule"] == "CPUBottleneck"
    assert status["RuleEvaluationStatus"] == "IssuesFound"
    assert "\n" not in status["StatusDetails"]
    assert datetime.fromisoformat(status["LastModifiedTime"]).tzinfo is not None
    assert status["Times"] == [START + 539.5, START + 599.5]
    assert (status["Triggered"], status["Points"], status["Steps"]) == (2, 1200, [])
    assert status["Parameters"]["patience"] == 1000


def test_parts_of_a_report_have_every_parameter() -> None:
    (asked,) = parse_rules(PROFILER_RULES, ["ProfilerReport"], {"StepOutlier_mode": "TRAIN"})
    parts = {part.rule: part for part in report_parts(asked)}
    assert parts["StepOutlier"].parameters == {
        "stddev": 3, "mode": "TRAIN", "n_outliers": 10, "scan_interval_us": 60_000_000,
    }  # fmt: skip
    for rule, part in parts.items():
        assert set(part.parameters) == set(PROFILER_RULES[rule].parameters)

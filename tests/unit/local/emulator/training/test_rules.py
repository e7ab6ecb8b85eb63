"""The rule statuses of a job, whatever its container writes."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from local.emulator.training.describe import enter, new_body
from local.emulator.training.rules import (
    LARGEST,
    NOTHING,
    rules_ended,
    rules_interrupted,
    rules_now,
    rules_requested,
)
from tests.unit.local.emulator.training_harness import request

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = START + timedelta(hours=1)
DEBUG, PROFILER = "DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"


def configuration(name: str, **parameters: str) -> dict[str, Any]:
    given = {"rule_to_invoke": name, **parameters}
    return {"RuleConfigurationName": name, "RuleEvaluatorImage": "any", "RuleParameters": given}


def training(*rules: str, **more: Any) -> dict[str, Any]:
    """Return the body of a training job with these debugger rules."""
    requested: dict[str, Any] = {"DebugRuleConfigurations": [configuration(rule) for rule in rules]}
    body = new_body(request(**requested, **more), ARN, None, START)
    enter(body, "Training", START)
    return body


def entry(name: str, status: str, **more: Any) -> dict[str, Any]:
    return {"RuleConfigurationName": name, "RuleEvaluationStatus": status, **more}


def say(tree: Path, *entries: Any, file: str = "debug.json") -> None:
    path = tree / "output" / "data" / "rules" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(entries)))


def told(statuses: list[dict[str, Any]]) -> dict[str, str]:
    return {one["RuleConfigurationName"]: one["RuleEvaluationStatus"] for one in statuses}


def test_requested_rules_are_in_progress_from_the_start() -> None:
    rules = [configuration("Overfit"), configuration("DeadRelu")]
    statuses = rules_requested({"DebugRuleConfigurations": rules}, ARN, START)
    assert list(statuses) == [DEBUG]
    assert told(statuses[DEBUG]) == {"Overfit": "InProgress", "DeadRelu": "InProgress"}
    assert statuses[DEBUG][0]["LastModifiedTime"] == START
    assert rules_requested(request(), ARN, START) == {}


@pytest.mark.parametrize("name", ["Overfit", "x" * 256, "--", "Ü/ö", "a b"])
def test_the_arn_of_an_evaluation_has_sagemakers_format(name: str) -> None:
    from local.emulator.shapes.parser import parse

    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.shape_for("DebugRuleEvaluationStatus")
    arn = ARN.replace("/job", "/" + "j" * 62 + "k")
    rules = {"DebugRuleConfigurations": [configuration(name), configuration("other")]}
    first, second = rules_requested(rules, arn, START)[DEBUG]
    assert first["RuleEvaluationJobArn"] != second["RuleEvaluationJobArn"]
    whole = {**first, "LastModifiedTime": START.timestamp()}
    assert parse(shape, json.dumps(whole).encode())["RuleConfigurationName"] == name


def test_statuses_from_the_container_are_shown_during_training(tmp_path: Path) -> None:
    body = training("Overfit", "DeadRelu")
    when = START + timedelta(minutes=5)
    fired = entry(
        "Overfit",
        "IssuesFound",
        StatusDetails="fired at step 400",
        LastModifiedTime=when.isoformat(),
        Steps=[400],
        Rule="Overfit",
    )
    say(tmp_path, fired)
    say(tmp_path, entry("LowGPUUtilization", "InProgress"), file="profiler.json")
    statuses = rules_now(body, tmp_path, NOW)
    assert told(statuses[DEBUG]) == {"Overfit": "IssuesFound", "DeadRelu": "InProgress"}
    first = statuses[DEBUG][0]
    assert first["RuleEvaluationJobArn"].startswith(
        "arn:aws:sagemaker:us-east-1:123456789012:processing-job/job-overfit-"
    )
    assert {key: first[key] for key in ("StatusDetails", "LastModifiedTime")} == {
        "StatusDetails": "fired at step 400",
        "LastModifiedTime": when,
    }
    assert len(first) == 5
    assert told(statuses[PROFILER]) == {"LowGPUUtilization": "InProgress"}
    assert told(body[DEBUG]) == {"Overfit": "InProgress", "DeadRelu": "InProgress"}


def test_a_job_without_rules_has_no_statuses(tmp_path: Path) -> None:
    body = new_body(request(), ARN, None, START)
    enter(body, "Training", START)
    assert rules_now(body, tmp_path, NOW) == {}
    assert rules_ended(body, tmp_path, "Completed", NOW) == {}


@pytest.mark.parametrize(
    ("how", "said", "status", "details"),
    [
        ("Completed", [], "Error", NOTHING),
        ("Completed", [entry("other", "NoIssuesFound")], "Error", "other rules, but not this"),
        ("Completed", [entry("Overfit", "InProgress")], "Error", "ended before it evaluated"),
        ("Failed", [], "Error", "the job failed before"),
        ("Stopped", [], "Stopped", "the job was stopped before"),
        ("Stopped", [entry("Overfit", "Stopping")], "Stopped", "the job was stopped before"),
        ("Failed", [entry("Overfit", "IssuesFound", StatusDetails="x")], "IssuesFound", "x"),
        ("Completed", [entry("Overfit", "Stopped", StatusDetails="x")], "Stopped", "x"),
        ("Stopped", [entry("Overfit", "NoIssuesFound", StatusDetails="x")], "NoIssuesFound", "x"),
    ],
)
def test_statuses_at_the_end_of_a_job(
    how: str, said: list[Any], status: str, details: str, tmp_path: Path
) -> None:
    if said:
        say(tmp_path, *said)
    first = rules_ended(training("Overfit"), tmp_path, how, NOW)[DEBUG][0]
    assert first["RuleEvaluationStatus"] == status
    assert details in first["StatusDetails"]


def test_statuses_do_not_change_after_the_end(tmp_path: Path) -> None:
    body = training("Overfit")
    say(tmp_path, entry("Overfit", "InProgress"))
    body |= rules_ended(body, tmp_path, "Stopped", NOW)
    enter(body, "Uploading", NOW)
    assert told(rules_now(body, tmp_path, NOW)[DEBUG]) == {"Overfit": "Stopped"}
    again = rules_ended(body, tmp_path, "Failed", NOW)
    assert again[DEBUG] == body[DEBUG]


def test_a_second_attempt_keeps_the_findings_of_the_first(tmp_path: Path) -> None:
    body = training("Overfit", "DeadRelu", "Overtraining")
    say(
        tmp_path,
        entry("Overfit", "IssuesFound", StatusDetails="fired at step 4"),
        entry("DeadRelu", "Stopped", StatusDetails="SIGTERM"),
        entry("MyOwn", "InProgress"),
    )
    assert told(rules_now(body, tmp_path, NOW)[DEBUG])["DeadRelu"] == "InProgress"
    body |= rules_interrupted(body, tmp_path, NOW)
    enter(body, "Interrupted", NOW)
    everything = {"Overfit": "IssuesFound", "DeadRelu": "InProgress"}
    everything |= {"Overtraining": "InProgress", "MyOwn": "InProgress"}
    between = rules_now(body, tmp_path, NOW)[DEBUG]
    assert told(between) == everything
    assert "StatusDetails" not in between[1]
    enter(body, "Training", NOW)
    say(tmp_path, entry("Overfit", "NoIssuesFound"), entry("DeadRelu", "NoIssuesFound"))
    second = rules_now(body, tmp_path, NOW)[DEBUG]
    assert told(second) == everything | {"DeadRelu": "NoIssuesFound"}
    assert second[0]["StatusDetails"] == "fired at step 4"


HOSTILE = [
    b"",
    b"{",
    b'[{"RuleConfigurationName": "Overfit", "RuleEval',
    b"{}",
    b"null",
    b"[" * 200_000,
    b"[1, null, [], {}]",
    b"\xff\xfe",
    b"9" * 5000,
    b" " * (LARGEST + 1),
    json.dumps([entry("", "IssuesFound"), entry("x" * 257, "IssuesFound")]).encode(),
    json.dumps([entry("Overfit", "Fine"), entry(7, "IssuesFound"), entry("Overfit", [])]).encode(),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_invalid_statuses_are_left_out(content: bytes, tmp_path: Path) -> None:
    say(tmp_path)
    (tmp_path / "output/data/rules/debug.json").write_bytes(content)
    assert told(rules_now(training("Overfit"), tmp_path, NOW)[DEBUG]) == {"Overfit": "InProgress"}


@pytest.mark.parametrize("modified", [7, None, "soon", "0001-01-01T00:00:00+14:00", "9999-12-31"])
def test_values_above_the_apis_limits_are_shortened(modified: Any, tmp_path: Path) -> None:
    details = "\x1b[31mred\ud800\n" + "x" * 5000
    say(
        tmp_path,
        entry("a\nb\x07", "Error", StatusDetails=details, LastModifiedTime=modified),
    )
    status = rules_now(training("Overfit"), tmp_path, NOW)[DEBUG][1]
    assert status["RuleConfigurationName"] == "a b"
    assert len(status["StatusDetails"]) == 1024
    assert status["StatusDetails"].startswith("[31mred?\nxxx")
    assert START <= status["LastModifiedTime"] <= NOW


def test_a_time_in_another_time_zone_is_read(tmp_path: Path) -> None:
    say(tmp_path, entry("Overfit", "Error", LastModifiedTime="2026-01-02T05:14:05+02:00"))
    status = rules_now(training("Overfit"), tmp_path, NOW)[DEBUG][0]
    assert status["LastModifiedTime"] == datetime(2026, 1, 2, 3, 14, 5, tzinfo=UTC)


def test_the_worst_statuses_are_shown_up_to_the_limit_of_a_response(tmp_path: Path) -> None:
    fine = [entry(f"fine{n}", "NoIssuesFound") for n in range(30)]
    say(tmp_path, *fine, entry("bad", "IssuesFound"), entry("broken", "Error"))
    statuses = told(rules_now(training("Overfit"), tmp_path, NOW)[DEBUG])
    assert len(statuses) == 20
    assert {"bad", "broken", "Overfit", "fine0"} <= set(statuses)


@pytest.mark.parametrize("where", ["output", "output/data", "output/data/rules", "debug.json"])
def test_links_are_not_followed(where: str, tmp_path: Path) -> None:
    elsewhere, tree = tmp_path / "elsewhere", tmp_path / "tree"
    say(elsewhere, entry("secret", "IssuesFound"))
    inside = "output/data/rules/debug.json" if where == "debug.json" else where
    (tree / inside).parent.mkdir(parents=True)
    (tree / inside).symlink_to(elsewhere / inside)
    assert told(rules_now(training("Overfit"), tree, NOW)[DEBUG]) == {"Overfit": "InProgress"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_in_place_of_the_file_is_not_read(make: Any, tmp_path: Path) -> None:
    (tmp_path / "output/data/rules").mkdir(parents=True)
    make(tmp_path / "output/data/rules/debug.json")
    assert told(rules_now(training("Overfit"), tmp_path, NOW)[DEBUG]) == {"Overfit": "InProgress"}

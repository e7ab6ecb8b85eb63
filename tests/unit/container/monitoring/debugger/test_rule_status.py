import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from container.monitoring.debugger.rule_status import KEPT_STEPS, RuleEvaluationStatus, StatusFile
from container.rules.requests import RuleRequest

OVERFIT = RuleRequest("Overfit", "my-overfit", {"patience": 1}, stop=True)
OWN = RuleRequest("Mine", "mine", {"limit": "5"})


def test_every_rule_is_in_progress_at_first(tmp_path: Path) -> None:
    StatusFile(tmp_path / "rules" / "debug.json", [OVERFIT, OWN]).write()
    entries = json.loads((tmp_path / "rules" / "debug.json").read_text())
    assert [p.name for p in (tmp_path / "rules").iterdir()] == ["debug.json"]
    assert [e["RuleConfigurationName"] for e in entries] == ["my-overfit", "mine"]
    changed = datetime.fromisoformat(entries[0].pop("LastModifiedTime"))
    assert abs(datetime.now(UTC) - changed) < timedelta(minutes=5)
    assert entries[0] == {
        "RuleConfigurationName": "my-overfit",
        "RuleEvaluationStatus": "InProgress",
        "StatusDetails": "",
        "Rule": "Overfit",
        "Parameters": {"patience": 1},
        "Steps": [],
        "Times": [],
        "Triggered": 0,
        "Points": 0,
    }


def test_a_rule_that_fires_often_is_counted() -> None:
    status = RuleEvaluationStatus(OVERFIT)
    status.fire(400, 1000.5, "the loss\nrose")
    assert (status.state, status.details) == ("IssuesFound", "fired at step 400: the loss rose")
    for step in range(401, 500):
        status.fire(step, 1001.0, "")
    assert status.triggered == 100
    assert status.steps == list(range(400, 400 + KEPT_STEPS))
    assert status.times[:2] == [1000.5, 1001.0]
    assert status.details == "fired 100 times, first at step 400, last at 499"
    status.end("nothing")
    assert status.state == "IssuesFound"


def test_an_error_is_one_line_followed_by_its_traceback() -> None:
    status = RuleEvaluationStatus(OWN)
    status.fire(3, 0.0, "")
    status.fail("KeyError:\n'x'", "Traceback\n  File\n")
    assert status.failed
    line, *below = status.details.split("\n")
    assert line == "KeyError: 'x' (before that it fired at step 3)"
    assert below == ["Traceback", "  File"]
    status.end()
    status.stop("stopped")
    assert status.state == "Error"


def test_a_rule_that_never_fired_ends_without_issues_or_is_stopped() -> None:
    quiet, stopped = RuleEvaluationStatus(OVERFIT), RuleEvaluationStatus(OVERFIT)
    quiet.end("nothing to look at: no losses")
    stopped.stop("the job was interrupted")
    assert (quiet.state, quiet.details) == ("NoIssuesFound", "nothing to look at: no losses")
    assert (stopped.state, stopped.details) == ("Stopped", "the job was interrupted")


def test_another_process_reads_the_written_statuses(tmp_path: Path) -> None:
    path = tmp_path / "debug.json"
    written, read = StatusFile(path, [OVERFIT, OWN]), StatusFile(path, [OVERFIT, OWN])
    read.reload()  # nothing there yet
    written.statuses[0].fire(7, 70.0, "why")
    written.statuses[1].points = 3
    written.write()
    read.reload()
    assert read.entries() == written.entries()
    path.write_text(path.read_text()[:50])
    read.reload()
    assert read.entries() == written.entries()
    read.each(lambda status: status.stop("over"))
    assert [s.state for s in read.statuses] == ["IssuesFound", "Stopped"]

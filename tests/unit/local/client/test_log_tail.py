import time
from typing import Any

import pytest

from local.client.log_tail import read_log_tail
from local.client.target import Target

GROUP = "/aws/sagemaker/Endpoints/flowers"


def write(logs: Any, stream: str, start: int, *lines: str) -> None:
    if not logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]:
        logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    now = int(time.time() * 1000)
    events = [{"timestamp": now + start + at, "message": line} for at, line in enumerate(lines)]
    logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)


def test_the_last_lines_of_the_latest_stream(moto_target: Target) -> None:
    logs = moto_target.client("logs")
    write(logs, "AllTraffic/i-1", -60_000, "old")
    write(logs, "AllTraffic/i-2", -30_000, *(f"line {n}" for n in range(30)))
    assert read_log_tail(logs, GROUP, wait=0) == [f"line {n}" for n in range(10, 30)]
    assert read_log_tail(logs, GROUP, lines=2, wait=0) == ["line 28", "line 29"]
    assert read_log_tail(logs, GROUP, prefix="AllTraffic/i-1", wait=0) == ["old"]


def test_a_missing_or_empty_log_has_no_lines(moto_target: Target) -> None:
    logs = moto_target.client("logs")
    assert read_log_tail(logs, GROUP, wait=0) == []
    logs.create_log_group(logGroupName=GROUP)
    assert read_log_tail(logs, GROUP, wait=0) == []


def test_it_waits_for_late_lines(moto_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = moto_target.client("logs")
    monkeypatch.setattr(
        "local.client.log_tail.time.sleep", lambda _: write(logs, "AllTraffic/i-1", 0, "late")
    )
    assert read_log_tail(logs, GROUP, wait=30) == ["late"]

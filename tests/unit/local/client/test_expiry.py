from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.client.expiry import create_schedule, delete_schedule, format_time, parse_duration
from local.client.target import Target
from local.errors import UserError
from local.requests.hosting import schedule

ROLE = "arn:aws:iam::123456789012:role/berth"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90m", timedelta(minutes=90)),
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("1d 2h", timedelta(hours=26)),
        ("120s", timedelta(minutes=2)),
    ],
)
def test_durations(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "-2h", "2h-", "30s", "0h"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(UserError, match="--ttl: found"):
        parse_duration(text)


def test_a_schedule_replaces_the_earlier_one(moto_aws: Target) -> None:
    scheduler = moto_aws.client("scheduler")
    for hour in (3, 4):
        when = datetime(2030, 1, 2, hour, tzinfo=UTC)
        create_schedule(moto_aws, schedule("flowers", when, ROLE))
        (found,) = scheduler.list_schedules()["Schedules"]
        expression = scheduler.get_schedule(Name=found["Name"])["ScheduleExpression"]
        assert expression == f"at(2030-01-02T0{hour}:00:00)"
    delete_schedule(moto_aws, "flowers")
    assert scheduler.list_schedules()["Schedules"] == []
    delete_schedule(moto_aws, "flowers")  # a missing schedule is not an error


def test_the_local_sagemaker_has_no_schedule_to_delete() -> None:
    class Here(Target):
        def client(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("asked for a client")

    delete_schedule(Here("local", "http://127.0.0.1:9", "us-east-1", "1", "", "", ""), "flowers")


def test_a_time_is_shown_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    try:
        shown = format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown == "2026-01-02 04:04:05 CET (03:04:05 UTC)"

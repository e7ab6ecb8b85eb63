from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.client.log_streams import LogLine, LogReader
from tests.unit.local.fake_logs import FakeLogs


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


@pytest.fixture
def logs() -> FakeLogs:
    return FakeLogs()


def test_each_line_is_read_once(logs: FakeLogs) -> None:
    reader = LogReader(logs, "group", "job/")
    assert reader.read() == []  # no group yet
    first = logs.streams["job/algo-1-1700"] = [(n, f"line {n}") for n in range(5)]
    logs.streams["job-2/algo-1-1700"] = [(0, "another job's")]
    assert texts(reader.read()) == [f"line {n}" for n in range(5)]
    assert reader.read() == []
    first.append((9, "later"))
    assert texts(reader.read()) == ["later"]


def test_several_hosts_are_read_in_order_of_time(logs: FakeLogs) -> None:
    logs.streams["job/algo-1-17"] = [(1, "a"), (3, "c")]
    logs.streams["job/algo-2-17"] = [(2, "b"), (4, "d")]
    reader = LogReader(logs, "group", "job/")
    lines = reader.read()
    assert texts(lines) == ["a", "b", "c", "d"]
    assert [line.host for line in lines] == ["algo-1", "algo-2", "algo-1", "algo-2"]
    logs.streams["job/algo-1-99"] = [(9, "after an interruption")]
    assert texts(reader.read()) == ["after an interruption"]


def test_a_single_host_is_read(logs: FakeLogs) -> None:
    logs.streams["job/algo-1-17"] = [(1, "a")]
    logs.streams["job/algo-12-17"] = [(2, "b")]
    assert texts(LogReader(logs, "group", "job/", "algo-12").read()) == ["b"]


def test_a_throttled_read_returns_nothing_and_the_next_continues(logs: FakeLogs) -> None:
    logs.streams["job/algo-1-17"] = [(1, "a")]
    reader = LogReader(logs, "group", "job/")
    logs.busy = 1
    assert reader.read() == []
    assert texts(reader.read()) == ["a"]


def test_throttling_between_two_pages(logs: FakeLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.streams["job/algo-1-17"] = [(n, f"line {n}") for n in range(5)]
    reader = LogReader(logs, "group", "job/")
    ask = logs.get_log_events
    asked = 0

    def sometimes(**arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked % 2 == 0:
            logs.busy = 1
        return ask(**arguments)

    monkeypatch.setattr(logs, "get_log_events", sometimes)
    read: list[str] = []
    for _ in range(8):
        read += texts(reader.read())
    assert read == [f"line {n}" for n in range(5)]


def test_another_error_is_raised(logs: FakeLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.streams["job/algo-1-17"] = [(1, "a")]

    def refuse(**_arguments: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetLogEvents")

    monkeypatch.setattr(logs, "get_log_events", refuse)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        LogReader(logs, "group", "job/").read()


def test_the_last_lines(logs: FakeLogs) -> None:
    logs.streams["job/algo-1-17"] = [(n, f"a{n}") for n in range(0, 20, 2)]
    logs.streams["job/algo-2-17"] = [(n, f"b{n}") for n in range(1, 20, 2)]
    assert texts(LogReader(logs, "group", "job/").last(3)) == ["b17", "a18", "b19"]


def test_the_host_of_an_endpoint_is_its_instance() -> None:
    assert LogLine("AllTraffic/i-0123456789abcdef0", "", 0).host == "i-0123456789abcdef0"

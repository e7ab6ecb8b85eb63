import io
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from serve.http.access_log import AccessLog
from serve.records import RECORD, InvocationRecord


@pytest.fixture
def restored() -> Iterator[None]:
    """Restore gunicorn's loggers, which the whole process shares, after each test."""
    loggers = [logging.getLogger(name) for name in ("gunicorn.error", "gunicorn.access")]
    before = [(log.level, log.propagate, log.handlers[:]) for log in loggers]
    yield
    for log, (level, propagate, handlers) in zip(loggers, before, strict=True):
        log.setLevel(level)
        log.propagate = propagate
        log.handlers[:] = handlers


class Told:
    """Captures what a server with BERTH_LOG_FORMAT=`form` logs."""

    def __init__(self, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BERTH_LOG_FORMAT", form)
        config = Config()
        config.set("accesslog", "-")
        self.logger = AccessLog(config)
        self.out = io.StringIO()
        for handler in (*self.logger.error_log.handlers, *self.logger.access_log.handlers):
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(self.out)

    def request(
        self, path: str = "/invocations", record: InvocationRecord | None = None, **headers: str
    ) -> None:
        environ: dict[str, Any] = dict(headers) | ({RECORD: record} if record else {})
        response = SimpleNamespace(status_code=200, sent=151)
        request = SimpleNamespace(method="POST", path=path)
        self.logger.access(response, request, environ, timedelta(seconds=0.0413))

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def text(restored: None, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told("text", monkeypatch)


@pytest.fixture
def as_json(restored: None, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told("json", monkeypatch)


def record() -> InvocationRecord:
    made = InvocationRecord(received=30125, images=3, decode=0.0021, compute=0.038)
    made.waited_to_decode(0.001)
    made.waited_for_engine(0.002)
    made.waited_for_engine(0.0005)
    return made


def test_a_line_shows_the_time_of_each_stage_of_an_invocation(text: Told) -> None:
    text.request(
        record=record(),
        HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID="mine-1",
        HTTP_X_AMZN_REQUESTID="4a-5b",
    )
    (line,) = text.lines()
    assert line.endswith(
        "POST /invocations status=200 ms=41.3 instances=3 received=30125 bytes=151 decode_ms=2.1 "
        "queue_ms=3.0 compute_ms=38.0 request_id=4a-5b inference_id=mine-1"
    )


def test_a_line_in_json_has_the_same_fields(as_json: Told) -> None:
    as_json.request(record=record(), HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID="mine-1")
    (line,) = as_json.lines()
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "INFO",
        "method": "POST",
        "path": "/invocations",
        "status": 200,
        "ms": 41.3,
        "instances": 3,
        "received": 30125,
        "bytes": 151,
        "decode_ms": 2.1,
        "queue_ms": 3.0,
        "compute_ms": 38.0,
        "inference_id": "mine-1",
    }


def test_other_log_lines_are_json_too(as_json: Told) -> None:
    as_json.logger.error('cannot serve: "%s"\nreally', "this")
    try:
        raise ValueError("bad\nluck")
    except ValueError:
        as_json.logger.exception("failed")
    first, second = map(json.loads, as_json.lines())
    assert first["message"] == 'cannot serve: "this"\nreally'
    assert first["level"] == "ERROR"
    assert "ValueError" in second["traceback"]


@pytest.mark.parametrize("name", ["text", "as_json"])
def test_an_id_cannot_inject_lines_or_fields(name: str, request: pytest.FixtureRequest) -> None:
    told: Told = request.getfixturevalue(name)
    told.request(
        "/in\r\nvocations \x1b[1m",
        HTTP_X_REQUEST_ID="a status=500\r\nPOST é" + "x" * 100,
        HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID='"}',
    )
    (line,) = told.lines()
    assert "\x1b" not in line
    assert " status=500" not in line
    assert "x" * 60 not in line
    assert line.isascii()


def test_health_checks_and_scrapes_are_not_logged(text: Told) -> None:
    text.request("/ping")
    text.request("/metrics")
    assert text.lines() == []


def test_a_record_is_finished_with_the_status_and_duration_of_its_response(text: Told) -> None:
    ended: list[tuple[InvocationRecord, int, float]] = []
    made = InvocationRecord(lambda *what: ended.append(what))
    text.request(record=made)
    assert ended == [(made, 200, 0.0413)]

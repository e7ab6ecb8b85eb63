"""FilterLogEvents' patterns, by the CloudWatch Logs user guide's own examples and others."""

import json

import pytest

from local.emulator.aws.logs.filters import compile_pattern
from local.emulator.errors import ServiceError
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import client

LINES = [
    "[ERROR 400] BAD REQUEST",
    "[ERROR 401] UNAUTHORIZED REQUEST",
    "[ERROR 419] MISSING ARGUMENTS",
    "[WARN 420] INVALID ARGUMENTS",
    "[INFO] all is well",
]


def numbers(pattern: str, messages: list[str]) -> list[int]:
    match = compile_pattern(pattern)
    return [number for number, message in enumerate(messages) if match(message)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("  ", [0, 1, 2, 3, 4]),
        ("ERROR", [0, 1, 2]),
        ("error", []),
        ("ERROR ARGUMENTS", [2]),
        ("?ERROR ?WARN", [0, 1, 2, 3]),
        ('?"BAD REQUEST" ?INVALID', [0, 3]),
        ("ERROR -ARGUMENTS", [0, 1]),
        ("-ERROR -WARN", [4]),
        ('ERROR -"BAD REQUEST"', [1, 2]),
        ('"ERROR 4"', [0, 1, 2]),
        ('"[WARN"', [3]),
        ("%AUTHORIZED%", [1]),
        ("%ERROR 4[01]%", [0, 1, 2]),
        (r"%4\d0%", [0, 3]),
        ("%BAD|INVALID%", [0, 3]),
        ("%^.WARN%", [3]),
        ("%well$%", [4]),
    ],
)
def test_terms(pattern: str, expected: list[int]) -> None:
    assert numbers(pattern, LINES) == expected


EVENT = {
    "eventType": "UpdateTrail",
    "sourceIPAddress": "111.111.111.111",
    "arrayKey": ["value", "another value"],
    "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "SomeObject": None,
    "Flag": True,
    "errorCode": 400,
    "latency": 12.5,
    "odd.name": "x",
    "text": "4",
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ $.eventType = "UpdateTrail" }', True),
        ('{$.eventType="UpdateTrail"}', True),
        ("{ $.eventType = UpdateTrail }", True),
        ('{ $.eventType = "Other" }', False),
        ('{ $.eventType != "Other" }', True),
        ('{ $.eventType = "*Trail" }', True),
        ('{ $.eventType = "*" }', True),
        ("{ $.eventType = %Trail% }", True),
        ("{ $.eventType = %^Trail% }", False),
        ("{ $.eventType != %Delete% }", True),
        ("{ $.sourceIPAddress != 123.123.* }", True),
        ("{ $.sourceIPAddress = 111.111.* }", True),
        ('{ $.arrayKey[0] = "value" }', True),
        ('{ $.arrayKey[1] = "value" }', False),
        ('{ $.arrayKey[*] = "another value" }', True),
        ("{ $.objectList[1].id = 2 }", True),
        ("{ $.objectList[*].id > 1 }", True),
        ("{ $.objectList[*].id > 2 }", False),
        ('{ $.["odd.name"] = "x" }', True),
        ("{ $.SomeObject IS NULL }", True),
        ("{ $.Flag IS NULL }", False),
        ("{ $.Flag IS TRUE }", True),
        ("{ $.Flag IS FALSE }", False),
        ("{ $.Flag = true }", True),
        ("{ $.SomeOtherObject NOT EXISTS }", True),
        ("{ $.Flag NOT EXISTS }", False),
        ("{ $.errorCode = 400 }", True),
        ("{ $.errorCode = 4* }", True),
        ("{ $.errorCode = 4e2 }", True),
        ("{ $.errorCode != 500 }", True),
        ("{ $.errorCode > 399.5 }", True),
        ("{ $.errorCode >= 401 }", False),
        ("{ $.latency < 13 && $.latency > 12 }", True),
        ("{ $.latency <= 12.5 }", True),
        ("{ $.Flag > 0 }", False),
        ("{ $.missing = 1 }", False),
        ("{ $.missing < 1 }", False),
        ('{ ($.errorCode = 500 || $.errorCode = 400) && $.eventType = "Up*" }', True),
        ('{ $.errorCode = 500 || $.errorCode = 400 && $.eventType = "Down" }', False),
        ("{ $.objectList = 1 }", False),
    ],
)
def test_json(pattern: str, expected: bool) -> None:
    match = compile_pattern(pattern)
    assert match(json.dumps(EVENT)) is expected
    assert not match("no JSON: eventType UpdateTrail")


ACCESS = [
    '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534',
    '127.0.0.1 Prod alice [10/Oct/2000:13:25:16 -0700] "POST /a.jpg HTTP/1.0" 200 99',
    "a b c",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[ip, user, name, time, request, status, bytes]", [0, 1]),
        ("[ip, user, name, time, request, status = 404, bytes]", [0]),
        ("[ip, user, name, time, request = *.html*, status = 4*, bytes]", [0]),
        ("[ip=127*, user, name, time, request, status, bytes > 1000]", [0]),
        ("[ip, user, name, time, request, status, bytes < 100]", [1]),
        ("[ip, user, name, time, request, status = 404 || status = 200, bytes]", [0, 1]),
        ("[ip, user, name != frank && name != bob, time, request, status, bytes]", [1]),
        ('[ip, user, name, time="10/Oct/2000:13:25:15*", request, status, bytes]', [0]),
        ("[..., status = 4*, bytes]", [0]),
        ("[ip, user, ...]", [0, 1, 2]),
        ("[ip, ..., bytes = c]", [2]),
        ("[x, y, z]", [2]),
        ("[ip, user, name = %^a%, ...]", [1]),
        ("[w1, w2, w3, w4]", []),
    ],
)
def test_fields(pattern: str, expected: list[int]) -> None:
    assert numbers(pattern, ACCESS) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "epoch=2",
        "validation:loss",
        '"unclosed',
        "?a b",
        "?a -b",
        "a ?",
        "%unclosed",
        "%(group)%",
        "%something!%",
        "%[%",
        "%a% %b%",
        "{ $.a }",
        "{ $.a = }",
        "{ a = 1 }",
        "{ $.a = 1",
        "{ $.a = 1 } more",
        "{ $.a > big }",
        "{ $.a = 1 & $.b = 2 }",
        "{ $.a = 1 && }",
        "{ $.a IS MAYBE }",
        "{ $.a = %x% || $.a = %y% || $.a = %z% }",
        "{ $.a < %x% }",
        "[a, b",
        "[a = 1 || b = 2]",
        "[..., ...]",
        "[]",
        "[a > big]",
        "x" * 1025,
    ],
)
def test_invalid_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ServiceError) as caught:
        compile_pattern(pattern)
    assert caught.value.code == "InvalidParameterException"
    assert "nvalid" in caught.value.message


def test_over_http(server: Server) -> None:
    writer = server.services.logs.open("/group", "stream")
    for line in LINES:
        writer.write(line)
    logs = client(server.url, "logs")

    def found(pattern: str) -> list[str]:
        answer = logs.filter_log_events(logGroupName="/group", filterPattern=pattern)
        return [event["message"] for event in answer["events"]]

    assert found("?BAD ?WARN") == [LINES[0], LINES[3]]
    assert found("%4[12]%") == LINES[2:4]
    assert found("[level, ...]") == LINES
    assert found("{ $.a = 1 }") == []
    with pytest.raises(logs.exceptions.InvalidParameterException, match="Invalid character"):
        found("a=b")

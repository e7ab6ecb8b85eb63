"""Slow, idle and malformed client connections to a real server."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic, sleep

import pytest

from serve.http import connections
from serve.http.connections import BoundedUnreader
from tests.unit.serve.artifacts import picture, write_artifact
from tests.unit.serve.server import Server, serving

PATIENCE = 3.0
"""Seconds that this server waits where a real one waits for twenty."""

PROGRAM = (
    "import serve.http.connections as c; from serve.__main__ import main; "
    f"c.HEADER_SECONDS = c.BODY_SECONDS = {PATIENCE}; main()"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("ml")
    write_artifact(base / "model")
    with serving(base, command=[sys.executable, "-c", PROGRAM]) as server:
        server.wait_for("READY")
        yield server


def connect(server: Server, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """Return the status and JSON of the only response before the server closes; 0 if none came."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    if not data:
        return 0, {}
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def test_idle_connections_delay_no_ping_and_are_closed(server: Server) -> None:
    halves = [b"", b"P", HEAD, HEAD + b"Content-Length: 5\r\n", b"GET /ping HTTP/1.1\r\n"]
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server, halves[at % 5])) for at in range(200)]
        for _ in range(5):
            started = monotonic()
            assert server.ask("GET", "/ping")[0] == 200
            assert server.invoke(picture())[0] == 200
            assert monotonic() - started < PATIENCE
        statuses = [answer(connection)[0] for connection in opened]
    assert statuses == [0 if not halves[at % 5] else 408 for at in range(200)]


def framed(body: bytes, framing: str) -> tuple[bytes, bytes]:
    """Return a request with this body in two pieces, for a client to send one after the other."""
    if framing == "length":
        head, sent = f"Content-Length: {len(body)}\r\n", body
    else:
        chunks = [f"{len(part):x};a=b\r\n".encode() + part for part in (body[:99], body[99:])]
        head, sent = "Transfer-Encoding: chunked\r\n", b"\r\n".join([*chunks, b"0\r\nX: y\r\n\r\n"])
    if framing == "expect":
        head += "Expect: 100-continue\r\n"
    whole = HEAD + f"Connection: close\r\n{head}\r\n".encode() + sent
    return whole[: len(whole) - len(sent) + 9], whole[len(whole) - len(sent) + 9 :]


@pytest.mark.parametrize("framing", ["length", "chunks", "expect"])
def test_hundreds_of_stalled_bodies_delay_no_other_request(server: Server, framing: str) -> None:
    body = picture()
    first, rest = framed(body, framing)
    with ExitStack() as stack:
        stalled = [stack.enter_context(connect(server, first)) for _ in range(200)]
        slow = [stack.enter_context(connect(server, first)) for _ in range(200)]
        if framing == "expect":
            told = {each.recv(25) for each in (*stalled, *slow)}
            assert told == {b"HTTP/1.1 100 Continue\r\n\r\n"}
        for _ in range(5):
            assert server.invoke(body)[0] == 200
        for connection in slow:
            connection.sendall(rest)
        assert {answer(connection)[0] for connection in slow} == {200}
        missing = [answer(connection) for connection in stalled]
    assert {status for status, _ in missing} == {408}
    assert "did not arrive in time" in missing[0][1]["error"]


def test_a_body_that_ends_early_gets_an_error_with_its_length(server: Server) -> None:
    with connect(server, HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(10)) as connection:
        connection.shutdown(socket.SHUT_WR)
        status, error = answer(connection)
    assert status == 400
    assert "found 10 bytes, expected 1,000" in error["error"]


@pytest.mark.parametrize("step", [1, 2, 7, 4096])
def test_chunks_may_be_split_anywhere_and_the_next_request_follows_them(
    server: Server, step: int
) -> None:
    body = picture()
    cuts = range(0, len(body), 50)
    chunks = b"".join(b"32\r\n" + body[at : at + 50].ljust(50, b"\0") + b"\r\n" for at in cuts)
    sent = HEAD + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + b"000\r\n\r\n"
    with connect(server, b"") as connection:
        for at in range(0, len(sent), step):
            connection.sendall(sent[at : at + step])
        connection.sendall(b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := connection.recv(65536):
            data += piece
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200]


def test_too_many_chunks_to_buffer_are_read_by_a_thread(server: Server) -> None:
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    head = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(server, head) as connection:
        for _ in range(12):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        assert answer(connection)[0] == 400
    with connect(server, head + b"ffffffff\r\n") as connection:
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 400


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_body_too_long_to_buffer_is_read_by_a_thread(server: Server, expect: bytes) -> None:
    body = picture() + bytes(9_000_000)
    head = HEAD + expect + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with connect(server, head) as connection:
        if expect:
            assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert answer(connection)[0] in (200, 400)


def test_a_body_that_arrives_too_slowly_is_refused_and_pings_are_answered(server: Server) -> None:
    for more in (b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"):
        with connect(server, HEAD + more) as connection:
            connection.settimeout(0.1)
            until = monotonic() + 10 * PATIENCE
            while True:
                assert monotonic() < until
                connection.sendall(b"1" if b"Content" in more else b"1\r\na\r\n")
                try:
                    found = connection.recv(4096)
                except TimeoutError:
                    assert server.ask("GET", "/ping")[0] == 200
                    continue
                break
            connection.settimeout(30)
            while piece := connection.recv(4096):
                found += piece
        assert found.startswith(b"HTTP/1.1 408")
        assert b"Connection: close" in found
        assert b"did not arrive in time" in found


def test_many_small_chunked_bodies_are_all_answered(server: Server) -> None:
    body = picture()
    pieces = [
        HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n",
    ]
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server, pieces[0])) for _ in range(60)]
        sleep(0.3)
        for connection in opened:
            connection.sendall(pieces[1])
        assert {answer(connection)[0] for connection in opened} == {200}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET /ping HTTP/9.9\r\n\r\n", 400),
        (b"get /ping HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /ping HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /ping HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
        (b"GET /ping HTTP/1.1\r\n" + b"X: a\r\n" * 20_000, 431),
        (b"GET /ping HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nX: \x00\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (HEAD + b"Expect: the-worst\r\n\r\n", 417),
        (HEAD + b"Content-Length: ten\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (HEAD + b"Content-Length: 9" + b"9" * 5000 + b"\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: br\r\n\r\n", 400),
        (HEAD + b"Connection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 415),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabcde\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\na", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 100_000, 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 50_000, 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\n\r\n", 400),
    ],
)
def test_malformed_requests_get_json_errors(server: Server, sent: bytes, status: int) -> None:
    with connect(server, sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        found, body = answer(connection)
    assert found == status
    assert "\n" not in body["error"]
    assert "expected" in body["error"] or "HTTP" in body["error"]


def test_headers_that_would_rewrite_the_path_do_nothing(server: Server) -> None:
    assert server.ask("GET", "/ping", SCRIPT_NAME="/a", PATH_INFO="/b")[0] == 200
    scheme = {"X-Forwarded-Protocol": "ssl", "X-Forwarded-Proto": "http"}
    assert server.ask("GET", "/ping", b"", **scheme)[0] == 200


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    body = picture()
    one = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    last = b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n"
    with connect(server, b"\r\n" + one + b"\r\n" + one + b"GET /a HTTP/1.1\r\n\r\n" + last) as sent:
        data = b""
        while piece := sent.recv(65536):
            data += piece
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 404, 200]


def test_a_refused_client_that_is_still_sending_gets_the_error(server: Server) -> None:
    with connect(
        server, HEAD.replace(b"/invocations", b"/a") + b"Content-Length: 999999\r\n\r\n"
    ) as a:
        a.sendall(bytes(999_999))
        assert answer(a)[0] == 404
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"1\r\nabc", b"0\r\nHost: x\r\n\r\n", b"0\r\nb a d\r\n\r\n"]
)
def test_a_malformed_body_of_a_refused_request_gets_one_response(
    server: Server, body: bytes
) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(server, head + body) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 404
    assert "Traceback" not in server.log.read_text()


def test_received_bytes_extend_the_time_limit_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(connections, "monotonic", lambda: now)
    server, client = socket.socketpair()
    with server, client:
        unreader = BoundedUnreader(server)
        client.sendall(bytes(5000))
        assert len(unreader.chunk()) == 5000
        now += connections.BODY_SECONDS + 5
        client.sendall(b"a")
        assert unreader.chunk() == b"a"
        now += 6
        client.sendall(b"a")
        with pytest.raises(TimeoutError):
            unreader.chunk()
        unreader.begin(now)
        assert unreader.chunk() == b"a"
        unreader.end_within(0)
        with pytest.raises(TimeoutError):
            unreader.chunk()

"""gunicorn's threaded worker, hardened against slow, idle and hostile clients.

A thread takes a connection only once its request is received, so clients that never finish cost a
file descriptor but no thread. For a long body it takes over after the headers. Everything a client
sends has a deadline. `GET /ping` has its own threads, so a busy server still answers health checks.
"""

import errno
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from time import monotonic
from types import FrameType
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

from serve.http.connections import (
    PIECE,
    SEND_SECONDS,
    UNREAD_SECONDS,
    Connection,
    error_response,
    guard,
    is_read,
    refusal,
)
from serve.records import RECEIVED_AT

LINGER = 3.0
"""Seconds for a client that is still sending to read the error response (RFC 9112, 9.6)."""

TICK = 0.2
"""Seconds between checks of deadlines, and for refused clients to linger, during shutdown."""

MAX_HELD = 64 * 1024 * 1024
"""Bytes of incomplete requests to buffer; above this, threads read the rest."""

FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Handles received requests; on SIGTERM closes idle keep-alive connections at once.

    gunicorn's own worker waits for the whole grace period while a client keeps a connection open,
    and assigns a thread to each connection before it has received a request.
    """

    gpu: str | None = None
    """The GPU of this worker, as named by CUDA_VISIBLE_DEVICES."""

    def init_process(self) -> None:
        """Start serving; runs in the worker process."""
        # Ordered sets, earliest deadline first.
        self._awaiting_headers: dict[Connection, None] = {}
        self._lingering: dict[Connection, None] = {}
        # Unordered, because their deadlines move.
        self._awaiting_body: dict[Connection, None] = {}
        self._held = 0
        self._pings = ThreadPoolExecutor(2)
        super().init_process()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM."""
        super().handle_exit(sig, frame)
        self.method_queue.defer(self._expire_idle)

    def accept(self, listener: Any) -> None:
        """Accept a connection."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in FULL:
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        connection = Connection(self.cfg, client, address, listener.getsockname())
        self._watch(connection, self._awaiting_headers, self._receive)

    def enqueue_req(self, conn: Connection) -> None:
        """Pass a request to a thread."""
        self._forget(conn)
        pool = self._pings if conn.is_ping else self.tpool
        conn.hand_over()
        done: Future[bool] = pool.submit(self.handle, conn)
        done.add_done_callback(lambda _: self.method_queue.defer(self.finish_request, conn, done))

    def on_client_socket_readable(self, conn: Connection, client: Any) -> None:
        """Handle bytes on an idle keep-alive connection."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        conn.await_headers()
        self._watch(conn, self._awaiting_headers, self._receive)
        self._receive(conn)

    def finish_request(self, conn: Connection, fs: "Future[bool]") -> None:
        """Keep or close the connection after a response; runs in the main thread."""
        try:
            keep = not fs.cancelled() and fs.result() and self.alive
            if keep:
                conn.take_back()
        except Exception:
            self._drop(conn)
            return
        if not keep:
            self._end(conn)
        elif conn.begun:
            conn.await_headers()
            self._watch(conn, self._awaiting_headers, self._receive)
            self._advance(conn)
        else:
            conn.sock.setblocking(False)
            conn.set_timeout()
            self.keepalived_conns.append(conn)
            self.poller.register(
                conn.sock, EVENT_READ, partial(self.on_client_socket_readable, conn)
            )

    def murder_pending(self) -> None:
        """Close connections whose deadline has passed."""
        now = monotonic()
        while (conn := next(iter(self._awaiting_headers), None)) and conn.timeout <= now:
            if conn.begun:
                self._refuse(conn, 408, "HTTP headers: the rest of them did not arrive in time")
            else:
                self._drop(conn)
        while (conn := next(iter(self._lingering), None)) and conn.timeout <= now:
            self._drop(conn)
        for conn in [each for each in self._awaiting_body if each.timeout <= now]:
            # Its thread reports that the deadline passed.
            self.enqueue_req(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Check deadlines during shutdown too, when gunicorn waits for its whole timeout."""
        super().wait_for_and_dispatch_events(min(timeout, 1.0 if self.alive else TICK))

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Handle one request in a thread. False closes the connection."""
        RECEIVED_AT.set(conn.received_at)
        conn.sock.settimeout(SEND_SECONDS)
        guard(req.body, req.force_close)
        try:
            return bool(super().handle_request(req, conn))
        except TimeoutError:
            self.log.info("%s: the client did not read its response in time", req.path[:100])
            return False

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        if not keepalive:
            return False
        if not is_read(conn.parser.mesg.body):
            conn.parser.unreader.end_within(UNREAD_SECONDS)
        try:
            return bool(conn.parser.finish_body(deadline=monotonic() + UNREAD_SECONDS))
        # The response was sent; if the rest of the body is malformed, only close the connection.
        except (OSError, ParseException):
            return False

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: Exception) -> None:
        """Send a JSON error for a malformed request or a failed response; runs in a thread."""
        if isinstance(exc, ParseException):
            status, message = refusal(exc)
            self.log.info("status=%d %s", status, message)
        else:
            self.log.exception("a request failed")
            status, message = 500, f"the server failed ({type(exc).__name__}); see its log"
        with suppress(OSError):
            client.settimeout(SEND_SECONDS)
            client.sendall(error_response(status, message))

    def _watch(
        self,
        conn: Connection,
        group: dict[Connection, None],
        readable: Callable[[Connection], None],
    ) -> None:
        conn.sock.setblocking(False)
        group[conn] = None
        self.poller.register(conn.sock, EVENT_READ, lambda _: readable(conn))

    def _forget(self, conn: Connection) -> None:
        self._awaiting_headers.pop(conn, None)
        self._lingering.pop(conn, None)
        if conn in self._awaiting_body:
            self._awaiting_body.pop(conn)
            self._held -= conn.size
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def _receive(self, conn: Connection) -> None:
        try:
            data = conn.sock.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data and conn in self._awaiting_body:
            conn.add(data)
            self._held += len(data)
            self._await_body(conn)
        elif data:
            conn.add(data)
            self._advance(conn)
        elif conn in self._awaiting_body:
            # Its thread reports what is missing.
            self.enqueue_req(conn)
        elif conn.begun:
            self._refuse(conn, 400, "HTTP headers: found only a part of them")
        else:
            self._drop(conn)

    def _advance(self, conn: Connection) -> None:
        if problem := conn.problem:
            self._refuse(conn, *problem)
        elif conn.complete:
            conn.await_body()
            self._awaiting_headers.pop(conn)
            self._awaiting_body[conn] = None
            self._held += conn.size
            self._await_body(conn)

    def _await_body(self, conn: Connection) -> None:
        if conn.is_whole or self._held > MAX_HELD:
            self.enqueue_req(conn)
        else:
            conn.extend()

    def _refuse(self, conn: Connection, status: int, message: str) -> None:
        self.log.info("status=%d %s", status, message)
        self._forget(conn)
        with suppress(OSError):
            conn.sock.send(error_response(status, message))
        self._end(conn)

    def _end(self, conn: Connection) -> None:
        """Close after reading for a while, as unread bytes would discard the response."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return
        conn.timeout = monotonic() + (LINGER if self.alive else TICK)
        self._watch(conn, self._lingering, self._drain)

    def _drain(self, conn: Connection) -> None:
        try:
            more = conn.sock.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            more = b""
        if not more:
            self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _make_room(self) -> None:
        """Close the connection with the earliest deadline, or the one idle the longest."""
        for group in (self._lingering, self._awaiting_headers):
            if group:
                self._drop(next(iter(group)))
                return
        if self.keepalived_conns:
            self.keepalived_conns[0].timeout = 0.0
            self.murder_keepalived()
        elif self._awaiting_body:
            self._drop(min(self._awaiting_body, key=lambda conn: conn.timeout))

    def _expire_idle(self) -> None:
        # Requests already received are still answered.
        for conn in list(self._awaiting_headers):
            self._receive(conn)
        for conn in list(self._awaiting_body):
            self.enqueue_req(conn)
        # The event loop closes expired connections after each round of events.
        for conn in (*self.keepalived_conns, *self._awaiting_headers):
            conn.timeout = 0.0

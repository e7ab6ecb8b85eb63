"""A serving container: its start, health checks, restarts and stop."""

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import urllib3

from local.emulator.executors import Container, ContainerSpec, Executor, ExecutorError
from local.emulator.hosting.target_models import TargetModels
from local.emulator.ports import LogStream

PORT = 8080
"""The port on which a serving container listens."""
TAIL_LINES = 12
"""Last log lines of a container that are kept for messages."""

TAIL_LENGTH = 700
"""Most characters of these lines, so that they fit into a FailureReason."""
_REASON = 400
"""Most characters of a failure that /ping reports."""


@dataclass(frozen=True)
class HostingTiming:
    """Timeouts and intervals in seconds.

    Attributes:
        ping: timeout of /ping, from the container contract.
        first_poll: between a new container's first two pings; it doubles up to `poll`.
        poll: the longest between two pings of a starting container.
        watch: between two pings of a serving container; SageMaker's interval.
        misses: consecutive failed pings after which a container is restarted.
        backoff: before the first restart; it doubles up to `max_backoff`.
        max_backoff: the longest wait before a restart.
        grace: from SIGTERM to SIGKILL.
        drain: the longest wait for requests in flight before a container is stopped.
    """

    ping: float = 2
    first_poll: float = 0.02
    poll: float = 0.2
    watch: float = 5
    misses: int = 3
    backoff: float = 0.5
    max_backoff: float = 60
    grace: float = 30
    drain: float = 65


class InstanceFailed(Exception):
    """A container did not become healthy; the message is one line with the reason."""


class Instance:
    """A serving container.

    Attributes:
        serving: whether it is healthy and gets requests.
        in_flight: number of its requests in flight; the fleet changes it, under its lock.
        pool: its connection pool.
        models: the models of a multi-model container; otherwise None.
    """

    def __init__(
        self,
        executor: Executor,
        spec: ContainerSpec,
        log: LogStream,
        *,
        start_timeout: float,
        timing: HostingTiming,
        on_change: Callable[[], None],
        models: TargetModels | None = None,
    ) -> None:
        """Create the instance; `start` starts the container.

        Args:
            executor: runs the container.
            spec: the container to run, with a port.
            log: the log stream for its output.
            start_timeout: seconds until /ping must return 200.
            timing: the other timeouts and intervals.
            on_change: called when `serving` changes after the start.
            models: the models of a multi-model container.
        """
        self.models = models
        self.serving = False
        self.in_flight = 0
        self.pool = urllib3.HTTPConnectionPool("127.0.0.1", PORT)
        self._executor, self._spec, self._log = executor, spec, log
        self._start_timeout, self._timing, self._on_change = start_timeout, timing, on_change
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._container: Container | None = None
        self._gave_up = ""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether its container is running."""
        container = self._container
        if container is None:
            return False
        with contextlib.suppress(ExecutorError):
            return container.wait(0) is None
        return False

    def log_tail(self) -> str:
        """Its last log lines, joined into one and cut to `TAIL_LENGTH` characters."""
        text = " | ".join(line.strip() for line in self._lines if line.strip())
        return text if len(text) <= TAIL_LENGTH else f"…{text[-TAIL_LENGTH:]}"

    def start(self) -> None:
        """Start the container, wait until it is healthy, then monitor it in a thread.

        Raises:
            InstanceFailed: it ended, did not become healthy in time, or was stopped.
        """
        self._start_once()
        self._watcher = threading.Thread(
            target=self._watch, name=f"watch {self._spec.name}", daemon=True
        )
        self._watcher.start()

    def abandon(self) -> None:
        """Make `start` fail soon, from any thread; `stop` must still be called."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop and remove the container: SIGTERM, then SIGKILL after the grace period."""
        self._stopping.set()
        self.serving = False
        with self._lock:
            container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(ExecutorError):
                container.stop(self._timing.grace)
            with contextlib.suppress(ExecutorError):
                container.remove()
        if self._watcher is not None:
            self._watcher.join()
        if self.models is not None:
            self.models.close()
        self.pool.close()
        self._log.close()

    def _start_once(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                raise InstanceFailed("it was stopped")
            try:
                container = self._executor.start(self._spec, self._on_line)
            except ExecutorError as error:
                raise InstanceFailed(str(error)) from None
            self._container = container
        host, port = self._address(container)
        self.pool.close()
        self.pool = urllib3.HTTPConnectionPool(host, port, maxsize=64, retries=False)
        if self.models is not None:
            self.models.attach((host, port), container.base)
        self._wait_ready(container)
        if self.models is not None and (wrong := self.models.check()):
            raise InstanceFailed(f"{wrong}: the image serves no multi-model endpoints")
        self.serving = True

    def _address(self, container: Container) -> tuple[str, int]:
        """The container's host and port.

        Raises:
            InstanceFailed: it has already ended.
        """
        try:
            return container.address
        except ExecutorError as error:
            status = self._status_of(container, self._timing.ping)
            raise InstanceFailed(
                str(error) if status is None else f"it ended with {status} before it answered"
            ) from None

    def _wait_ready(self, container: Container) -> None:
        deadline = time.monotonic() + self._start_timeout
        pause = self._timing.first_poll
        answer = "nothing answered"
        while time.monotonic() < deadline:
            status = self._status_of(container, pause)
            if self._stopping.is_set():
                raise InstanceFailed("it was stopped")
            if status is not None:
                raise InstanceFailed(f"it ended with {status} before it answered")
            answer = self._ping()
            if not answer:
                return
            if self._gave_up:
                raise InstanceFailed(f"it cannot serve: {self._gave_up}")
            pause = min(pause * 2, self._timing.poll)
        raise InstanceFailed(f"{answer} within {self._start_timeout:g} seconds")

    def _status_of(self, container: Container, timeout: float) -> str | None:
        """The exit status for a message; None while the container is running."""
        try:
            status = container.wait(timeout)
        except ExecutorError as error:
            return str(error)
        return None if status is None else f"status {status}"

    def _ping(self) -> str:
        """Ping the container; return what is wrong, or "" if it is healthy."""
        try:
            answer = self.pool.request("GET", "/ping", timeout=self._timing.ping, retries=False)
        except urllib3.exceptions.NewConnectionError:
            return "nothing answered /ping"
        except urllib3.exceptions.TimeoutError:
            return f"/ping did not answer in {self._timing.ping:g} seconds"
        except urllib3.exceptions.HTTPError:
            return "/ping's answer broke off"
        self._gave_up = _gave_up(answer.data)
        return "" if answer.status == 200 else f"/ping answered {answer.status}"

    def _watch(self) -> None:
        misses = 0
        while not self._stopping.is_set():
            container = self._container
            if container is None:
                return
            status = self._status_of(container, self._timing.watch)
            if self._stopping.is_set():
                return
            if status is None:
                trouble = self._ping()
                misses = misses + 1 if trouble else 0
                if misses < self._timing.misses:
                    continue
                reason = f"{trouble}, {misses} times in a row"
            else:
                reason = f"the container ended with {status}"
            misses = 0
            self._revive(reason)

    def _revive(self, reason: str) -> None:
        """Restart a failed container, with exponential backoff, until it is healthy."""
        self.serving = False
        self._note(f"{reason}; starting it again")
        self._on_change()
        pause = self._timing.backoff
        while not self._stopping.wait(pause):
            try:
                self._remove_dead()
                self._start_once()
            except InstanceFailed as error:
                pause = min(pause * 2, self._timing.max_backoff)
                if not self._stopping.is_set():
                    self._note(f"{error}; trying again in {pause:g} seconds")
                continue
            self._note("it serves again")
            self._on_change()
            return

    def _remove_dead(self) -> None:
        with self._lock:
            if self._container is None:
                return
            try:
                self._container.remove()
            except ExecutorError as error:  # without the engine, the container may still be running
                raise InstanceFailed(str(error)) from None
            self._container = None

    def _on_line(self, line: str) -> None:
        self._lines.append(line)
        self._log.write(line)

    def _note(self, text: str) -> None:
        write_note(self._log, text)


def write_note(log: LogStream, text: str) -> None:
    """Write a line to a log with the prefix of SageMaker's own lines."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    log.write(f"{now}:[sagemaker logs]: {text}")


def _gave_up(ping: bytes) -> str:
    """The permanent failure that /ping's body reports; "" if there is none.

    berth's image returns `{"status": "FAILED", "detail": …}`, which is a final status.
    """
    try:
        status = json.loads(ping)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(status, dict) or status.get("status") != "FAILED":
        return ""
    return " ".join(str(status.get("detail", "no reason given")).split())[:_REASON]

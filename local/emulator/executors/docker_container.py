"""A container of the Docker executor: its output, its exit status, and how it is stopped."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from docker.errors import APIError, NotFound
from docker.utils.socket import STDERR, frames_iter

from local.emulator.executors import ContainerSpec, ExecutorError
from local.emulator.executors.engine import sdk_errors
from local.emulator.executors.line_buffer import LineBuffer
from local.emulator.executors.signals import COLUMNS, handles_signal, status_handles_signal

REMOVED_STATUS = 128 + signal.SIGKILL
"""The exit status of a container that was removed before the engine reported one."""
KILL_TIMEOUT = 60.0
"""Seconds to wait for a killed container to end."""
HANDLER_INTERVAL = 0.1
"""Seconds between two checks whether a container already handles SIGTERM."""

_log = logging.getLogger(__name__)


class DockerContainer:
    """A container on a Docker engine; see `Container`.

    Args:
        spec: its specification.
        container: the SDK's container, created but not started.
        on_remove: removes it from the engine; called at most once.
    """

    def __init__(self, spec: ContainerSpec, container: Any, on_remove: Callable[[], None]) -> None:
        self._spec, self._container, self._on_remove = spec, container, on_remove
        self._address: tuple[str, int] | None = None
        self._status = REMOVED_STATUS
        self._error: ExecutorError | None = None
        self._removed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_line: Callable[[str], None]) -> None:
        """Attach to its output, to get every line, and start it."""
        output = self._container.attach_socket(params={"stdout": 1, "stderr": 1, "stream": 1})
        try:
            self._container.start()
        except BaseException:
            _close(output)
            raise
        self._thread = threading.Thread(
            target=self._read, args=(output, on_line), name=f"output of {self.name}", daemon=True
        )
        self._thread.start()
        if self._spec.port is not None:
            self._address = self._published()

    @property
    def name(self) -> str:
        """The spec's name."""
        return self._spec.name

    @property
    def address(self) -> tuple[str, int]:
        """The address of its published port; the container's own address if it is isolated.

        Raises:
            ExecutorError: its spec has no port, or it ended right after its start.
        """
        if self._address is None:
            raise ExecutorError(f"{self.name} does not listen on a port")
        return self._address

    @property
    def base(self) -> str:
        """The mount point of its folder."""
        return "/opt/ml"

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end and the last line; the exit status, or None after `timeout` seconds.

        Raises:
            ExecutorError: the engine does not respond, so the status is unknown.
        """
        if not self._ended.wait(timeout):
            return None
        if self._error is not None:
            raise self._error
        return self._status

    def stop(self, grace: float) -> int:
        """Send SIGTERM, and SIGKILL after `grace` seconds; return the exit status.

        SIGTERM is sent as soon as the container's first process handles it, and the grace period
        starts then. A process that never handles it is killed after the grace period.

        Raises:
            ExecutorError: the engine does not respond, or the container cannot be killed.
        """
        handled, status = self._wait_for_handler(time.monotonic() + grace)
        if status is None:
            self._signal("SIGTERM")
            status = self.wait(grace if handled else 0.0)
        if status is None:
            self._signal("SIGKILL")
            status = self.wait(KILL_TIMEOUT)
        if status is None:
            raise ExecutorError(f"{self.name} is still running {KILL_TIMEOUT:.0f} s after SIGKILL")
        return status

    def remove(self) -> None:
        """Kill and remove the container, and make the home's owner own its files."""
        if self._removed:
            return  # a new container may have its name now
        self._removed = True
        self._on_remove()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(KILL_TIMEOUT)

    def _published(self) -> tuple[str, int] | None:
        """Host and port of the spec's port; None if the container has ended."""
        self._container.reload()
        settings = self._container.attrs["NetworkSettings"]
        bindings = (settings["Ports"] or {}).get(f"{self._spec.port}/tcp")
        if bindings:
            return str(bindings[0]["HostIp"]), int(bindings[0]["HostPort"])
        for network in settings["Networks"].values():
            if network["IPAddress"] and self._spec.port is not None:
                return str(network["IPAddress"]), self._spec.port
        return None

    def _wait_for_handler(self, deadline: float) -> tuple[bool, int | None]:
        """Wait until it handles SIGTERM; whether it does, and the exit status if it ended."""
        while not self._handles_sigterm():
            if time.monotonic() > deadline:
                return False, None
            status = self.wait(HANDLER_INTERVAL)
            if status is not None:
                return True, status
        return True, None

    def _handles_sigterm(self) -> bool:
        """Whether the container's first process handles SIGTERM; True if that is unknown."""
        try:
            self._container.reload()
            pid = self._container.attrs["State"]["Pid"]
            # Ask the engine, as the pid is one on the engine's machine.
            table = self._container.top(ps_args=f"-o {COLUMNS}")
            return handles_signal(table, pid, signal.SIGTERM)
        except APIError as error:
            _log.debug("%s: the engine's ps shows no signals: %s", self.name, error)
        except Exception as error:
            # The container or the engine has stopped: `wait` returns or raises.
            _log.debug("%s: whether it handles SIGTERM is unknown: %s", self.name, error)
            return True
        try:
            ran = self._container.exec_run(["cat", "/proc/1/status"])
            text = ran.output.decode(errors="replace") if ran.exit_code == 0 else ""
            return status_handles_signal(text, signal.SIGTERM)
        except Exception as error:
            _log.debug("%s: whether it handles SIGTERM is unknown: %s", self.name, error)
            return True

    def _signal(self, name: str) -> None:
        try:
            with sdk_errors():
                self._container.kill(signal=name)
        except ExecutorError:
            # The container or the engine has stopped: `wait` returns or raises.
            _log.debug("%s did not get %s", self.name, name, exc_info=True)

    def _read(self, output: Any, on_line: Callable[[str], None]) -> None:
        """Run in a thread: deliver the lines, then set the exit status."""
        out, err = LineBuffer(on_line), LineBuffer(on_line)
        try:
            for stream, data in frames_iter(output, tty=False):
                (err if stream == STDERR else out).feed(data)
        except OSError as error:
            _log.debug("%s: the output ended early: %s", self.name, error)
        finally:
            _close(output)
        out.close()
        err.close()
        try:
            with sdk_errors():
                self._status = self._exit_status(out)
        except ExecutorError as error:
            if not self._removed:
                self._error = error
        finally:
            self._ended.set()

    def _exit_status(self, log: LineBuffer) -> int:
        """Wait for the exit status, and log a line if the container ran out of memory."""
        status = REMOVED_STATUS
        with contextlib.suppress(NotFound):  # another server has removed it
            status = int(self._container.wait(timeout=None)["StatusCode"])
            self._container.reload()
            if self._container.attrs["State"]["OOMKilled"]:
                log.emit("berth: the container was killed: out of memory")
        return status


def _close(output: Any) -> None:
    """Close an attached stream and its socket, which the SDK leaves open."""
    connection = getattr(output, "_sock", None)
    output.close()
    if connection is not None:
        connection.close()

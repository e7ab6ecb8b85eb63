"""Starts the process that evaluates rules, polls it for a stop and waits for its final statuses."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from container.monitoring.debugger.evaluator import ENDED, PROGRESS, STDERR, STOP, EvaluatorConfig
from container.monitoring.debugger.rule_status import StatusFile, drop_temporary
from container.rules.requests import RuleRequest

STOP_POLL_SECONDS = 0.2
"""Seconds between two checks of the disk for a stop, at least."""
LOG_SECONDS = 10.0
"""Seconds between two messages while the job waits for the rules."""
_THREAD_POOLS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _THREAD_POOLS}


class Watcher:
    """Evaluates rules in a separate process during training. Rules cannot fail the job.

    Args:
        tensors: smdebug's output folder; files of an earlier job must be deleted before `start`.
        statuses: the file with every rule's status, kept up to date.
        rules: the rules to evaluate.
        custom_rules: the file with the user's rules, or a folder with the files named by the rules'
            sources.
        say: where messages go.
    """

    def __init__(
        self,
        tensors: Path,
        statuses: Path,
        rules: Sequence[RuleRequest],
        custom_rules: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._tensors, self._custom_rules, self._say = tensors, custom_rules, say
        self._file = StatusFile(statuses, rules)
        self._exchange: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_reason: str | None = None
        self._next_poll = 0.0

    def start(self) -> None:
        """Write every status as InProgress and start the evaluating process.

        If it cannot be started, this is logged and becomes an error of every rule at the end.
        """
        try:
            self._file.write()
            self._exchange = Path(tempfile.mkdtemp(prefix="berth-rules-"))
            self._process = self._start(self._exchange)
        except OSError as error:
            self._say(f"rules are not evaluated: {error}")

    def _start(self, exchange: Path) -> "subprocess.Popen[bytes]":
        config = EvaluatorConfig(
            tensors=self._tensors.absolute(),
            statuses=self._file.path.absolute(),
            exchange=exchange,
            rules=tuple(status.request for status in self._file.statuses),
            custom_rules=None if self._custom_rules is None else self._custom_rules.absolute(),
            parent=os.getpid(),
        )
        config.write(exchange / "config.json")
        with (exchange / STDERR).open("wb") as errors:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "container.monitoring.debugger.evaluator",
                    str(exchange / "config.json"),
                ],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, **_ONE_THREAD, "SMDEBUG_LOG_LEVEL": "off"},
                start_new_session=True,  # the job handles Ctrl-C and then calls `kill`
            )

    def stop_asked(self) -> str | None:
        """The reason to stop training, once a rule that stops it has fired; None before.

        Cheap enough for every step: checks the disk at most five times per second.
        """
        if self._stop_reason is None and self._exchange is not None:
            now = time.monotonic()
            if now >= self._next_poll:
                self._next_poll = now + STOP_POLL_SECONDS
                self._stop_reason = _text(self._exchange / STOP) or None
        return self._stop_reason

    def finish(self, timeout: float = 600) -> list[dict[str, Any]]:
        """Wait for the evaluation of the last saved step.

        Args:
            timeout: seconds after which unfinished rules become errors.

        Returns:
            Every rule's status entry, as in the file.
        """
        process, exchange = self._process, self._exchange
        if process is None or exchange is None:
            self._close("the evaluation could not be started")
            return self._file.entries()
        with contextlib.suppress(OSError):  # the tensors' end marker is enough
            (exchange / ENDED).touch()
        ended = self._wait(process, exchange, timeout)
        self._file.reload()
        if ended:
            last = _text(exchange / STDERR).strip().rpartition("\n")[2]
            self._close(
                f"the evaluation ended with status {process.returncode} before it was done"
                + (f": {last}" if last else "")
            )
        else:
            self._end(process)
            self._file.reload()
            self._close(f"not done {timeout:.0f} s after training ended: {_progress(exchange)}")
        return self._file.entries()

    def kill(self) -> None:
        """Stop evaluating an interrupted job; keeps issues found. No effect after `finish`."""
        process, self._process = self._process, None
        if process is None:
            return
        self._end(process)
        self._file.reload()
        self._file.each(lambda status: status.stop("the job was interrupted"))
        self._clean_up()

    def _wait(self, process: "subprocess.Popen[bytes]", exchange: Path, timeout: float) -> bool:
        """Wait for the process; returns whether it ended in time."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            try:
                process.wait(min(left, LOG_SECONDS))
            except subprocess.TimeoutExpired:
                self._say(f"rules: {_progress(exchange)}")
            else:
                return True
        return process.poll() is not None

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            drop_temporary(self._file.path, process.pid)

    def _close(self, reason: str) -> None:
        """Turn every status that is in progress into an error."""
        self._process = None
        self._file.each(lambda status: status.fail(reason))
        self._clean_up()

    def _clean_up(self) -> None:
        try:
            self._file.write()
        except OSError as error:
            self._say(f"{self._file.path}: the rules' statuses cannot be written: {error}")
        if self._exchange is not None:
            shutil.rmtree(self._exchange, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _progress(exchange: Path) -> str:
    evaluated, _, saved = _text(exchange / PROGRESS).partition(" ")
    return f"evaluated {evaluated or 0} of {saved or 0} saved steps"

"""The job's side of the rules: starts the process that evaluates them, asks it whether to stop, and
waits for its last word."""

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
from container.monitoring.debugger.rule_status import StatusFile, drop_leftover
from container.rules.requests import RuleRequest

ASK_SECONDS = 0.2
"""Asking whether to stop looks at the disk at most this often."""
SAY_SECONDS = 10.0
"""While the job waits for the rules it says so this often."""
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}


class Watcher:
    """Rules that are evaluated while a network trains. Nothing they do can fail the job.

    Args:
        tensors: smdebug's output folder; what an earlier job left there is gone by `start`.
        statuses: the file with every rule's status, kept up to date.
        rules: what to evaluate.
        own_rules: the file with the user's own rules; or a folder with the files that the
            rules' sources name.
        say: where messages go.
    """

    def __init__(
        self,
        tensors: Path,
        statuses: Path,
        rules: Sequence[RuleRequest],
        own_rules: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._tensors, self._own_rules, self._say = tensors, own_rules, say
        self._file = StatusFile(statuses, rules)
        self._exchange: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: str | None = None
        self._ask_again = 0.0

    def start(self) -> None:
        """Write every status as InProgress and start the process that evaluates.

        A process that cannot be started is said, and is an error of every rule at the end.
        """
        try:
            self._file.write()
            self._exchange = Path(tempfile.mkdtemp(prefix="berth-rules-"))
            self._process = self._start(self._exchange)
        except OSError as error:
            self._say(f"rules are not evaluated: {error}")

    def _start(self, exchange: Path) -> "subprocess.Popen[bytes]":
        assignment = EvaluatorConfig(
            tensors=self._tensors.absolute(),
            statuses=self._file.path.absolute(),
            exchange=exchange,
            rules=tuple(status.request for status in self._file.statuses),
            own_rules=None if self._own_rules is None else self._own_rules.absolute(),
            parent=os.getpid(),
        )
        assignment.write(exchange / "assignment.json")
        with (exchange / STDERR).open("wb") as errors:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "container.monitoring.debugger.evaluator",
                    str(exchange / "assignment.json"),
                ],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, **_ONE_THREAD, "SMDEBUG_LOG_LEVEL": "off"},
                start_new_session=True,  # Ctrl-C is the job's to handle, which then calls `kill`
            )

    def stop_asked(self) -> str | None:
        """Why training is to end, once a rule that stops it has fired; else None.

        Cheap enough for every step: looks at the disk five times a second at most.
        """
        if self._asked is None and self._exchange is not None:
            now = time.monotonic()
            if now >= self._ask_again:
                self._ask_again = now + ASK_SECONDS
                self._asked = _text(self._exchange / STOP) or None
        return self._asked

    def finish(self, timeout: float = 600) -> list[dict[str, Any]]:
        """Wait for the last evaluation; nothing more is saved from here on.

        Args:
            timeout: seconds; then what is not evaluated stays so, as an error.

        Returns:
            Every rule's entry, as in the file.
        """
        process, exchange = self._process, self._exchange
        if process is None or exchange is None:
            self._close("the evaluation could not be started")
            return self._file.entries()
        with contextlib.suppress(OSError):  # the tensors' own marker of the end will do
            (exchange / ENDED).touch()
        ended = self._wait(process, exchange, timeout)
        self._file.read_back()
        if ended:
            last = _text(exchange / STDERR).strip().rpartition("\n")[2]
            self._close(
                f"the evaluation ended with status {process.returncode} before it was done"
                + (f": {last}" if last else "")
            )
        else:
            self._end(process)
            self._file.read_back()
            self._close(f"not done {timeout:.0f} s after training ended: {_progress(exchange)}")
        return self._file.entries()

    def kill(self) -> None:
        """The job is interrupted: evaluate no more; what was found stays. Harmless at the end."""
        process, self._process = self._process, None
        if process is None:
            return
        self._end(process)
        self._file.read_back()
        self._file.each(lambda status: status.stop("the job was interrupted"))
        self._tidy()

    def _wait(self, process: "subprocess.Popen[bytes]", exchange: Path, timeout: float) -> bool:
        """Whether the process ended in time."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            try:
                process.wait(min(left, SAY_SECONDS))
            except subprocess.TimeoutExpired:
                self._say(f"rules: {_progress(exchange)}")
            else:
                return True
        return process.poll() is not None

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            drop_leftover(self._file.path, process.pid)

    def _close(self, reason: str) -> None:
        """Whatever is in progress now will not be done."""
        self._process = None
        self._file.each(lambda status: status.fail(reason))
        self._tidy()

    def _tidy(self) -> None:
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

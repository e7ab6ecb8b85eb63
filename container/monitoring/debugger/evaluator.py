"""Evaluates a job's rules in a separate process.

    python -m container.monitoring.debugger.evaluator FILE

It polls for saved steps, evaluates every rule at each of them and writes the rules' statuses, until
training has ended and all steps are evaluated. To not slow training, it runs at the lowest
priority, in one thread and without torch. It exits when the job's process has ended.
"""

import contextlib
import json
import os
import shutil
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from container.files.json_files import replace_text, to_json
from container.monitoring.debugger.rule_status import RuleEvaluationStatus, StatusFile
from container.monitoring.debugger.smdebug_install import prepare
from container.rules.requests import RuleRequest

POLL_SECONDS = 0.3
"""How often to poll for new steps."""
WRITE_SECONDS = 1.0
"""Minimum seconds between two writes of the statuses while steps are evaluated."""
ENDED, STOP, PROGRESS, STDERR = "ended", "stop", "progress", "stderr"
"""Files in `EvaluatorConfig.exchange` by which this process and the job's communicate."""


@dataclass(frozen=True)
class EvaluatorConfig:
    """What to evaluate; passed to the process as a JSON file.

    Attributes:
        tensors: smdebug's output folder; it need not exist yet.
        statuses: the file with every rule's status.
        exchange: a folder shared with the job's process. The job creates `ended` when it saves no
            more; this process writes `stop`, with the reason, when a rule stops training, and
            `progress` ("evaluated saved").
        rules: the rules to evaluate.
        custom_rules: the file or folder of the user's rules; see `container.rules.custom`.
        parent: process id of the job.
    """

    tensors: Path
    statuses: Path
    exchange: Path
    rules: tuple[RuleRequest, ...]
    custom_rules: Path | None
    parent: int

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OSError: it cannot be written.
        """
        path.write_text(to_json(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "EvaluatorConfig":
        """Read a file that `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        custom = values["custom_rules"]
        return cls(
            tensors=Path(values["tensors"]),
            statuses=Path(values["statuses"]),
            exchange=Path(values["exchange"]),
            rules=tuple(
                RuleRequest(**rule | {"unserved": tuple(rule["unserved"])})
                for rule in values["rules"]
            ),
            custom_rules=None if custom is None else Path(custom),
            parent=int(values["parent"]),
        )


class _RunningRule:
    """A rule: smdebug's object, once it is created, and its status."""

    def __init__(self, status: RuleEvaluationStatus) -> None:
        self.status = status
        self.made: Any = None
        self._steps = 0
        self._retired = False

    def make(self, trial: Any, custom_rules: Path | None) -> None:
        """Create the rule; if that fails, its status becomes Error."""
        from container.monitoring.debugger.rules.registry import make
        from container.rules.custom import is_custom
        from container.rules.custom import make as make_custom

        request = self.status.request
        with self._errors_to_status():
            if is_custom(request):
                self.made = make_custom(custom_rules, request, trial)
            else:
                self.made = make(request, trial)

    @property
    def alive(self) -> bool:
        return self.made is not None and not self.status.failed and not self._retired

    @property
    def stops(self) -> bool:
        """Whether it stops training when it fires."""
        return self.status.request.stop or bool(getattr(self.made, "stop_training_on_fire", False))

    def invoke(self, method: str, *arguments: int) -> bool:
        """Invoke the rule; returns whether it fires.

        Args:
            method: `invoke_at_step` with the global step; or an optional method: `invoke_at_time`,
                called at every poll, or `invoke_at_end`, called once.
        """
        if not self.alive or not hasattr(self.made, method):
            return False
        fired = False
        with self._errors_to_status():
            fired = self._call(method, arguments)
        self._steps += len(arguments)
        points = getattr(self.made, "points", self._steps)
        self.status.points = int(points) if isinstance(points, int | float) else self._steps
        return fired

    @property
    def details(self) -> str:
        details = getattr(self.made, "details", "")
        return details if isinstance(details, str) else ""

    def _call(self, method: str, arguments: tuple[int, ...]) -> bool:
        """`Rule.invoke` without waiting or actions.

        A step that lacks a tensor the rule reads is skipped, as `invoke_rule` does.
        """
        from smdebug import exceptions

        try:
            if arguments:
                self.made.req_tensors.clear()
                self.made.set_required_tensors(*arguments)
                self.made.req_tensors.fetch()
            return bool(getattr(self.made, method)(*arguments))
        except exceptions.RuleEvaluationConditionMet as met:
            self._retired = bool(met.end_of_rule)
            return True
        except (
            exceptions.NoMoreData,
            exceptions.ShapeUnavailableForStep,
            exceptions.StepNotYetAvailable,
            exceptions.StepUnavailable,
            exceptions.TensorUnavailable,
            exceptions.TensorUnavailableForStep,
        ):
            return False

    @contextlib.contextmanager
    def _errors_to_status(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.status.fail(f"{type(error).__name__}: {error}", traceback.format_exc())


class RuleEvaluator:
    """Evaluates all rules of a job, from its first saved step to its last.

    Args:
        config: what to evaluate.
    """

    def __init__(self, config: EvaluatorConfig) -> None:
        self._config = config
        self._file = StatusFile(config.statuses, config.rules)
        self._rules = [_RunningRule(status) for status in self._file.statuses]
        self._trial: Any = None
        self._last = -1
        self._evaluated = self._saved = 0
        self._written = 0.0
        self._lock = threading.Lock()
        self._unwritable = False

    def run(self) -> None:
        """Evaluate until training has ended; errors are recorded in the statuses."""
        self._write()
        try:
            while not self._poll():
                if not self._behind:
                    time.sleep(POLL_SECONDS)
            self._finish()
        except Exception as error:
            line, below = f"{type(error).__name__}: {error}", traceback.format_exc()
            self._file.each(lambda status: status.fail(line, below))
        self._write()

    def abandon(self) -> None:
        """Record that the job's process has ended, and write nothing more."""
        self._file.each(lambda status: status.stop("the job's process ended"))
        self._write()
        self._lock.acquire()  # nothing is written after this

    def _poll(self) -> bool:
        """Evaluate new steps; returns whether training has ended and all are evaluated."""
        from container.monitoring.debugger import trial

        tensors = self._config.tensors
        # Checked before refreshing, so that everything saved until then is read.
        over = trial.ended(tensors) or (self._config.exchange / ENDED).exists()
        if self._trial is None and (trial.ready(tensors) or (over and trial.ready(tensors, 0))):
            self._trial = trial.GrowingTrial(tensors)  # reads the first steps
            for rule in self._rules:
                rule.make(self._trial, self._config.custom_rules)
        if self._trial is None:
            return over
        self._trial.refresh_data()
        if over and not self._trial.waiting:
            self._trial.finish()
        self._evaluate_new()
        self._trial.forget()
        if self._behind:
            return False
        self._each("invoke_at_time")
        return over

    @property
    def _behind(self) -> bool:
        """Whether there are saved steps that were not read yet."""
        return self._trial is not None and self._trial.waiting > 0

    def _evaluate_new(self) -> None:
        """Evaluate every rule at every new step."""
        new = [step for step in self._trial.steps() if step > self._last]
        self._saved = self._evaluated + len(new) + self._trial.waiting
        for step in new:
            self._last = step
            self._each("invoke_at_step", step)
            self._evaluated += 1
            if time.monotonic() - self._written > WRITE_SECONDS:
                self._write()
        if new:
            self._write()

    def _each(self, method: str, *arguments: int) -> None:
        for rule in self._rules:
            if rule.invoke(method, *arguments):
                step = max(0, self._last)
                saved_at = self._trial.time_of(step) if arguments else time.time()
                rule.status.fire(step, saved_at, rule.details)
                if rule.stops:
                    self._stop_training(rule.status)
                if not arguments:
                    self._write()

    def _stop_training(self, status: RuleEvaluationStatus) -> None:
        path = self._config.exchange / STOP
        if not path.exists():
            _try(lambda: replace_text(path, f"rule {status.request.name} {status.details}"))

    def _finish(self) -> None:
        """Invoke `invoke_at_end` and write the final statuses."""
        self._each("invoke_at_end")
        unreadable = len(self._trial.unreadable) if self._trial is not None else 0
        for rule in self._rules:
            if self._trial is None:
                rule.status.fail(
                    f"{self._config.tensors}: no tensors that could be read were saved, so "
                    "nothing was evaluated"
                )
                continue
            remark = rule.details or ("" if self._evaluated else "no step was saved")
            if unreadable:
                remark += f"{'; ' if remark else ''}{unreadable} saved steps could not be read"
            rule.status.end(remark)

    def _write(self) -> None:
        """Write the statuses and the progress; continues if the disk is full."""
        self._written = time.monotonic()
        with self._lock:
            failed = not _try(self._file.write)
            if failed and not self._unwritable:
                print(f"{self._config.statuses}: cannot be written", file=sys.stderr)
            self._unwritable = failed
            progress = self._config.exchange / PROGRESS
            _try(lambda: replace_text(progress, f"{self._evaluated} {self._saved}"))


def _try(write: Callable[[], None]) -> bool:
    try:
        write()
    except OSError:
        return False
    return True


def _exit_with(parent: int, evaluation: RuleEvaluator, exchange: Path) -> None:
    """Exit this process when the job's has ended, even while a rule runs."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    evaluation.abandon()
    shutil.rmtree(exchange, ignore_errors=True)
    os._exit(1)


def _import_reader() -> None:
    """Import smdebug's reader without the large optional libraries it would import.

    Torch alone takes half a gigabyte and many seconds, and pandas imports pyarrow if installed.
    Custom rules may still import them.
    """
    prepare()
    large = ("torch", "horovod", "pyarrow")
    hidden = [name for name in large if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: cannot be imported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from container.monitoring.debugger import trial

            trial.accept_documented_rules()
    finally:
        for name in hidden:
            del sys.modules[name]


def main() -> None:
    """Run the evaluation described by the file on the command line."""
    config = EvaluatorConfig.read(Path(sys.argv[1]))
    os.nice(19)
    evaluation = RuleEvaluator(config)
    threading.Thread(
        target=_exit_with, args=(config.parent, evaluation, config.exchange), daemon=True
    ).start()
    _import_reader()
    evaluation.run()


if __name__ == "__main__":
    main()

"""Logs a training job to an MLflow tracking server, if the environment names one.

A separate thread communicates with the server, so training never waits, and an unreachable server
only causes a warning in the log.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from container.environment import Environment
from container.extras import extra_missing
from container.hyperparameters import Hyperparameters
from container.tracking.secrets import shown_uri, without_secrets

if TYPE_CHECKING:
    from container.tracking.mlflow_run import MlflowRun, RunPlan

VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULTS = {
    # smdebug supports no other, and protobuf is imported only once.
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    # MLflow's defaults would retry for minutes, even at a job's end.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # It would print the server's address, which may contain a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Defaults of environment variables of MLflow's client and its dependencies."""
OBJECTIVE = "_tuning_objective_metric"
"""The hyperparameter that SageMaker adds only to trials of a tuning job."""
TRIAL = re.compile(r"(?P<tuning_job>.+)-\d{3,}-[0-9a-f]{8}")
"""The names of a tuning job's training jobs in SageMaker."""
RETRY_SECONDS = 30.0
"""Seconds between two attempts to reach an unreachable server."""
LAST_SECONDS = 20.0
"""Seconds to wait at a job's end for a server that was unreachable."""
STALL_SECONDS = 180.0
"""Seconds to wait at a job's end for the upload of one file."""
INTERRUPTED_SECONDS = 10.0
"""Seconds to wait at the end of an interrupted job, which SageMaker kills after two minutes."""
ERROR_LENGTH = 300


class Tracker:
    """Does nothing: for jobs without a tracking server, and ranks other than 0."""

    def parameters(self, hp: Hyperparameters) -> None:
        """Log the hyperparameters; may be called again with values that were None."""

    def restore(self, history: Iterable[Mapping[str, float | None]]) -> None:
        """Restore the records of the epochs before an interruption."""

    def epoch(self, record: Mapping[str, float]) -> None:
        """Log an epoch's metrics; `epoch` is its number, from 1."""

    def final(self, metrics: Mapping[str, float]) -> None:
        """Log the trained model's metrics."""

    def end(self, status: str) -> None:
        """End with FINISHED, FAILED or KILLED, after all output is written."""


def make_tracker(
    environment: Environment, hp: Hyperparameters, *, main: bool, say: Callable[[str], None]
) -> Tracker:
    """The tracker of this rank; imports MLflow only if its variable is set.

    Args:
        environment: the job's environment.
        hp: its hyperparameters.
        main: whether this is rank 0, the only one that logs.
        say: where messages go.
    """
    uri = os.environ.get(VARIABLE, "").strip()
    if not uri or not main:
        return Tracker()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from container.tracking.mlflow_run import MlflowRun, RunPlan
    except ModuleNotFoundError as error:
        missing = extra_missing(f"{error.name} is not installed", "image")
        say(f"warning: MLflow: nothing is logged, though {VARIABLE} is set: {missing}")
        return Tracker()
    tracker = MlflowTracker(MlflowRun(_plan(RunPlan, uri, environment)), environment, say)
    tracker.parameters(hp)
    return tracker


def tuning_job_of(environment: Environment) -> str | None:
    """The tuning job that the job is a trial of; None for other jobs."""
    trial = TRIAL.fullmatch(environment.job_name)
    if OBJECTIVE not in environment.hyperparameters or trial is None:
        return None
    return trial["tuning_job"]


class MlflowTracker(Tracker):
    """Logs to an MLflow run, from a thread.

    Args:
        run: the run, not yet opened.
        environment: the job's environment, for its output folders.
        say: where messages go.
    """

    def __init__(
        self, run: MlflowRun, environment: Environment, say: Callable[[str], None]
    ) -> None:
        self._run, self._environment, self._say = run, environment, say
        self._changed = threading.Condition()
        self._parameters: dict[str, str] = {}
        self._logged: dict[str, str] = {}
        self._waiting: list[tuple[int, int, Mapping[str, float]]] = []
        self._history: list[Mapping[str, float | None]] = []
        self._step, self._with_model = 0, True
        self._files: list[tuple[Path, str]] = []
        self._status: str | None = None
        self._failing = self._warned = self._introduced = self._ended = False
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
        self._thread.start()

    def parameters(self, hp: Hyperparameters) -> None:
        """Log the hyperparameters that are not None; returns at once."""
        given = hp.model_dump(mode="json").items()
        with self._changed:
            self._with_model = not hp.features_only
            self._parameters = {name: str(value) for name, value in given if value is not None}
            self._changed.notify_all()

    def restore(self, history: Iterable[Mapping[str, float | None]]) -> None:
        """Log the records of epochs that the run does not have yet."""
        with self._changed:
            self._history = list(history)
            self._step = max((_epoch(record) for record in self._history), default=0)
            self._changed.notify_all()

    def epoch(self, record: Mapping[str, float]) -> None:
        """Log an epoch's metrics; returns at once."""
        self._step = int(record["epoch"])
        self._log({name: value for name, value in record.items() if name != "epoch"})

    def final(self, metrics: Mapping[str, float]) -> None:
        """Log the trained model's metrics, at the last epoch's step; returns at once."""
        self._log(dict(metrics))

    def end(self, status: str) -> None:
        """Log what is pending, and warn about what was not logged.

        Logs no files of an interrupted job, and no model that has only features.
        """
        from container.tracking.mlflow_run import model_files, output_files

        files: list[tuple[Path, str]] = []
        if status != "KILLED":
            files = output_files(self._environment.output_data_dir)
        if status == "FINISHED" and self._with_model:
            files += model_files(self._environment.model_dir)
        with self._changed:
            self._files, self._status = files, status
            self._moved = time.monotonic()
            self._changed.notify_all()
            while not self._ended and self._is_patient(status):
                self._changed.wait(0.1)
            left = self._left()
        if left:
            self._say(f"warning: MLflow: not logged: {', '.join(left)}")

    def _is_patient(self, status: str) -> bool:
        """Whether to keep waiting for the thread. The caller holds the lock."""
        limit = STALL_SECONDS
        if status == "KILLED":
            limit = INTERRUPTED_SECONDS
        elif self._failing or not self._introduced:
            limit = LAST_SECONDS
        return time.monotonic() - self._moved < limit

    def _left(self) -> list[str]:
        """Descriptions of what was not logged. The caller holds the lock."""
        left = [] if self._parameters == self._logged else ["the hyperparameters"]
        steps = {step for step, _, _ in self._waiting} | set(map(_epoch, self._history))
        if steps:
            first, last = min(steps), max(steps)
            left.append(
                f"metrics of epoch {first}"
                if first == last
                else f"metrics of epochs {first} to {last}"
            )
        top = {folder.partition("/")[0] for _, folder in self._files}
        words = {"output": "pages and charts", "model": "the model"}
        left += [words[folder] for folder in words if folder in top]
        if not left and (self._failing or not self._ended):
            left.append("the run's end")
        return left

    def _log(self, values: Mapping[str, float]) -> None:
        from container.tracking.mlflow_run import now

        with self._changed:
            self._waiting.append((self._step, now(), values))
            self._changed.notify_all()

    def _work(self) -> None:
        """The thread's loop: log everything pending whenever there is something."""
        while True:
            with self._changed:
                status, files = self._status, list(self._files)
            self._attempt(status, files)
            with self._changed:
                if status is not None:
                    self._ended = True
                    self._changed.notify_all()
                    return
                if self._failing:
                    self._changed.wait_for(lambda: self._status is not None, RETRY_SECONDS)
                else:
                    self._changed.wait_for(self._has_something)

    def _attempt(self, status: str | None, files: list[tuple[Path, str]]) -> None:
        try:
            self._run.open()
            if not self._introduced:
                self._introduce()
            self._send_parameters()
            self._send_history()
            self._send_metrics()
            if status is not None:
                for path in self._run.log_files(files):
                    with self._changed:
                        self._files = [each for each in self._files if each[0] != path]
                        self._moved = time.monotonic()
                self._run.end(status)
        except Exception as error:  # whatever MLflow's client and its plugins raise
            self._failing = True
            self._warn(error)
        else:
            self._failing = False

    def _has_something(self) -> bool:
        """Whether there is something to log. The caller holds the lock."""
        new = self._parameters != self._logged
        return bool(self._status is not None or new or self._waiting or self._history)

    def _introduce(self) -> None:
        self._introduced = True
        uri, experiment = shown_uri(self._run.plan.uri), self._run.plan.experiment
        where = self._run.plan.experiment_id or experiment
        self._say(f"MLflow: run {self._run.id} of experiment {where} at {uri}")

    def _send_parameters(self) -> None:
        with self._changed:
            parameters = dict(self._parameters)
        if parameters == self._logged:
            return
        kept = self._run.log_parameters(parameters)
        with self._changed:
            self._logged = parameters
        if kept:
            self._say(f"MLflow: parameters of a run cannot be changed: {', '.join(kept)}")

    def _send_history(self) -> None:
        from container.tracking.mlflow_run import now

        with self._changed:
            history = self._history
        if not history:
            return
        known = self._run.steps("train:loss")
        self._run.log_metrics(
            [
                (_epoch(record), now(), _numbers(record))
                for record in history
                if _epoch(record) not in known
            ]
        )
        with self._changed:
            self._history = []

    def _send_metrics(self) -> None:
        with self._changed:
            waiting = list(self._waiting)
        if waiting:
            self._run.log_metrics(waiting)
        with self._changed:
            del self._waiting[: len(waiting)]
            self._moved = time.monotonic()

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        uri = self._run.plan.uri
        reason = " ".join(without_secrets(str(error), uri).split())[:ERROR_LENGTH]
        self._say(
            f"warning: MLflow: logging to {shown_uri(uri)} failed, training continues without it: "
            f"{type(error).__name__}: {reason}"
        )


def _plan(make: type[RunPlan], uri: str, environment: Environment) -> RunPlan:
    tuning_job = tuning_job_of(environment)
    place = f"{socket.gethostname()}:{environment.base.resolve()}"
    arn = os.environ.get("TRAINING_JOB_ARN")
    return make(
        uri=uri,
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or tuning_job or environment.job_name,
        experiment_id=os.environ.get("MLFLOW_EXPERIMENT_ID") or None,
        name=environment.job_name,
        job=arn or hashlib.sha256(place.encode()).hexdigest(),
        tuning_job=tuning_job,
        run_id=os.environ.get("MLFLOW_RUN_ID") or None,
        resumed=any(environment.checkpoint_dir.glob("checkpoint-*.json")),
    )


def _epoch(record: Mapping[str, float | None]) -> int:
    return int(record["epoch"] or 0)


def _numbers(record: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in record.items() if value is not None and name != "epoch"}

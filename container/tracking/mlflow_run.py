"""A job's run on an MLflow tracking server.

Imported only if `MLFLOW_TRACKING_URI` is set, because it imports MLflow's client. The URI may be
the ARN of a SageMaker tracking server, which MLflow resolves with the package sagemaker-mlflow.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

PARENT = "mlflow.parentRunId"
"""The tag that nests a run below another (MLflow, system tags)."""
JOB = "sagemaker.training_job"
TUNING_JOB = "sagemaker.tuning_job"
"""The tag of a tuning job's run, the parent of its trials."""
MOST_METRICS = 1000
MOST_PARAMETERS = 100
"""Limits of one request (MLflow, REST API, Log Batch)."""
MODEL_FOLDER, OUTPUT_FOLDER = "model", "output"
"""Folders of a run's artifacts."""
PAGES = {".html", ".json", ".jsonl", ".csv", ".png", ".jpg", ".svg"}
"""Suffixes of files in output/data to log: pages, images and tables."""


@dataclass(frozen=True)
class RunPlan:
    """The run to find or create.

    Attributes:
        uri: the tracking server's URI.
        experiment: the experiment's name, used if `experiment_id` is None.
        experiment_id: the experiment's id, or None.
        name: the run's name.
        job: a unique identifier of the job: its ARN, or a hash of its host and folder.
        tuning_job: the tuning job it is a trial of, or None.
        run_id: an existing run to continue, or None.
        resumed: whether the job resumes from a checkpoint, and may continue a finished run.
    """

    uri: str
    experiment: str
    experiment_id: str | None
    name: str
    job: str
    tuning_job: str | None
    run_id: str | None
    resumed: bool


@dataclass
class MlflowRun:
    """The run. A method that failed may be called again and continues where it stopped.

    All methods raise the errors of MLflow's client: MlflowException, and those of requests and
    botocore.
    """

    plan: RunPlan
    _client: MlflowClient | None = None
    _experiment: str | None = None
    _parent: str | None = None
    _own_parent: str | None = None
    _run: str | None = None
    _files_logged: set[Path] = field(default_factory=set)

    @property
    def id(self) -> str | None:
        """The run's id; None before `open`."""
        return self._run

    def open(self) -> None:
        """Find or create the experiment, the tuning job's run and the run."""
        if self._experiment is None:
            self._experiment = self.plan.experiment_id or self._find_experiment()
        if self.plan.tuning_job is not None and self._parent is None:
            self._parent = self._find_parent(self.plan.tuning_job)
        if self._run is None:
            self._run = self._find_run() or self._make_run()

    def log_parameters(self, parameters: Mapping[str, str]) -> list[str]:
        """Log the parameters that the run does not have yet.

        Returns:
            Descriptions of parameters that differ from the run's, which MLflow cannot change.
        """
        known: dict[str, str] = dict(self.client.get_run(self.run_id).data.params)
        new = [Param(name, value) for name, value in parameters.items() if name not in known]
        for first in range(0, len(new), MOST_PARAMETERS):
            self.client.log_batch(self.run_id, params=new[first : first + MOST_PARAMETERS])
        return [
            f"{name}={known[name]} (now {value})"
            for name, value in parameters.items()
            if known.get(name, value) != value
        ]

    def log_metrics(self, metrics: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Log metrics: (step, Unix time in ms, values by name); skips non-finite values."""
        entities = [
            Metric(name, value, timestamp, step)
            for step, timestamp, values in metrics
            for name, value in values.items()
            if math.isfinite(value)
        ]
        for first in range(0, len(entities), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=entities[first : first + MOST_METRICS])

    def steps(self, metric: str) -> set[int]:
        """The steps for which the run has a value of a metric."""
        return {entry.step for entry in self.client.get_metric_history(self.run_id, metric)}

    def log_files(self, files: Sequence[tuple[Path, str]]) -> Iterator[Path]:
        """Log files to folders of the run's artifacts; yields each once it is logged.

        Skips files that were logged before.
        """
        for path, folder in files:
            if path not in self._files_logged:
                self.client.log_artifact(self.run_id, str(path), folder)
                self._files_logged.add(path)
            yield path

    def end(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED.

        Also ends the tuning job's run, because no trial knows whether it is the last; the next
        trial reopens it.
        """
        if self._parent is not None and self.plan.tuning_job is not None:
            self._settle(self.plan.tuning_job)
        self.client.set_terminated(self.run_id, status)
        if self._parent is not None:
            self.client.set_terminated(self._parent, "FINISHED")

    @property
    def client(self) -> MlflowClient:
        """MLflow's client, created at first use."""
        if self._client is None:
            for name in ("mlflow", "urllib3"):
                # They log addresses with passwords; the caller logs failures once.
                logging.getLogger(name).setLevel(logging.CRITICAL)
            self._client = MlflowClient(self.plan.uri)
        return self._client

    @property
    def run_id(self) -> str:
        """The run's id, after `open`."""
        assert self._run is not None  # noqa: S101  # `open` comes first
        return self._run

    def _find_experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.plan.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(self.plan.experiment))
        except Exception:
            # Another trial may have created it meanwhile.
            found = self.client.get_experiment_by_name(self.plan.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def _find_run(self) -> str | None:
        """The run of this job from before an interruption, or the one in the environment."""
        if self.plan.run_id is not None and self.plan.tuning_job is None:
            self.client.update_run(self.plan.run_id, status="RUNNING")
            return self.plan.run_id
        runs = self._search(JOB, self.plan.job)
        if not runs or (runs[-1].info.status == "FINISHED" and not self.plan.resumed):
            return None
        found = str(runs[-1].info.run_id)
        self.client.update_run(found, status="RUNNING")
        return found

    def _make_run(self) -> str:
        tags = {JOB: self.plan.job, "mlflow.source.type": "JOB", "mlflow.source.name": "berth"}
        if self._parent is not None:
            tags[PARENT] = self._parent
        return self._create(self.plan.name, tags)

    def _find_parent(self, tuning_job: str) -> str:
        """The tuning job's first run, as trials that start together may each create one."""
        if self.plan.run_id is not None:
            return self.plan.run_id
        runs = self._search(TUNING_JOB, tuning_job)
        if not runs:
            self._own_parent = self._own_parent or self._create(
                tuning_job, {TUNING_JOB: tuning_job, "mlflow.source.name": "berth"}
            )
            runs = self._search(TUNING_JOB, tuning_job)
        parent = str(runs[0].info.run_id) if runs else str(self._own_parent)
        self.client.update_run(parent, status="RUNNING")
        self._drop_own_parent(parent)
        return parent

    def _settle(self, tuning_job: str) -> None:
        """Lie below the first of the tuning job's runs, which may have appeared after the start."""
        runs = [] if self.plan.run_id is not None else self._search(TUNING_JOB, tuning_job)
        if runs and str(runs[0].info.run_id) != self._parent:
            self._parent = str(runs[0].info.run_id)
            self.client.set_tag(self.run_id, PARENT, self._parent)
            self._drop_own_parent(self._parent)

    def _drop_own_parent(self, parent: str) -> None:
        if self._own_parent not in (None, parent):
            self.client.delete_run(str(self._own_parent))
            self._own_parent = None

    def _search(self, tag: str, value: str) -> list[Run]:
        """The runs with a tag, in the order of their start."""
        found = self.client.search_runs(
            [str(self._experiment)], f"tags.`{tag}` = '{value}'", order_by=["start_time ASC"]
        )
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(str(self._experiment), run_name=name, tags=dict(tags))
        return str(run.info.run_id)


def now() -> int:
    """The time as MLflow counts it: Unix milliseconds."""
    return time.time_ns() // 1_000_000


def output_files(folder: Path) -> list[tuple[Path, str]]:
    """The pages, pictures and tables below `output/data`, and the artifact folder of each."""
    return [
        (path, _folder(path, folder, OUTPUT_FOLDER))
        for path in _files(folder)
        if path.suffix.lower() in PAGES
    ]


def model_files(folder: Path) -> list[tuple[Path, str]]:
    """The model artifact's files, and the artifact folder of each."""
    return [(path, _folder(path, folder, MODEL_FOLDER)) for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _folder(path: Path, top: Path, place: str) -> str:
    below = path.parent.relative_to(top).as_posix()
    return place if below == "." else f"{place}/{below}"

"""Training jobs: create, update, stop, and recover after a restart."""

import shutil
import threading
from typing import Any

from container.cpus import available_cpus
from local.emulator.context import Context
from local.emulator.copies import spread
from local.emulator.errors import ServiceError, invalid, not_found
from local.emulator.executors import ExecutorError, ImageMissing
from local.emulator.store import Kind, Missing, Record
from local.emulator.training.concurrency import ConcurrencyLimit
from local.emulator.training.describe import enter, new_body, reconfigure, utc_now
from local.emulator.training.metrics import MetricPoint, read_metrics
from local.emulator.training.run import TrainingRun, TrainingTiming
from local.log_groups import TRAINING_JOBS
from local.statuses import TERMINAL


class TrainingJobs:
    """Runs training jobs, each in its own threads.

    Args:
        context: the region.
        max_parallel: most jobs at the same time, others wait as Pending; the default is the number
            of cores, and at least 2.
        timing: times to wait.
    """

    def __init__(
        self,
        context: Context,
        *,
        max_parallel: int | None = None,
        timing: TrainingTiming | None = None,
    ) -> None:
        self._context = context
        jobs = context.home.job(Kind.TRAINING_JOB, "")
        jobs.mkdir(parents=True, exist_ok=True)
        spread(jobs)
        self._concurrency = ConcurrencyLimit(max_parallel or max(2, available_cpus()))
        self._timing = timing or TrainingTiming()
        self._lock = threading.Lock()
        self._runs: dict[str, TrainingRun] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closing = False

    def create(
        self,
        request: dict[str, Any],
        *,
        tuning_job_arn: str | None = None,
        cpus: int | None = None,
    ) -> Record:
        """Store and start a job, without waiting for it.

        Args:
            request: a validated CreateTrainingJob request.
            tuning_job_arn: ARN of its tuning job, if it is a trial.
            cpus: cores per host; None for all.

        Raises:
            Exists: the name is in use.
            ServiceError: the image cannot be run here.
        """
        name = request["TrainingJobName"]
        arn = self._context.arn(Kind.TRAINING_JOB, name)
        self._check_image(request)
        private = {
            "request": {field: value for field, value in request.items() if field != "Tags"},
            "cpus": cpus,
        }
        folder = self._context.home.job(Kind.TRAINING_JOB, name)
        with self._lock:
            if self._closing:
                raise ServiceError("InternalFailure", "the local SageMaker is stopping", 500)
            body = new_body(request, arn, tuning_job_arn, utc_now())
            record = self._context.store.add(Kind.TRAINING_JOB, name, arn, body, private)
            try:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            except OSError as error:
                self._context.store.delete(Kind.TRAINING_JOB, name)
                raise ServiceError(
                    "InternalFailure", f"the job cannot be stored: {error}", 507
                ) from None
            tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
            self._context.store.tag(arn, tags)
            self._start(name)
        return record

    def stop(self, name: str) -> None:
        """Stop a job with SIGTERM, and SIGKILL after 120 s; its results are uploaded.

        Raises:
            ServiceError: the job does not exist or has ended.
        """

        def change(record: Record) -> None:
            status = record.body["TrainingJobStatus"]
            if status in TERMINAL:
                raise invalid(
                    f"The request was rejected because the training job is in status {status}."
                )
            if status != "Stopping":
                enter(record.body, "Stopping", utc_now())

        try:
            self._context.store.update(Kind.TRAINING_JOB, name, change)
        except Missing:
            raise not_found("Requested resource not found.") from None
        with self._lock:
            run = self._runs.get(name)
        if run is not None:
            run.send("stop")

    def update(self, name: str, request: dict[str, Any]) -> Record:
        """Change a running job and the configuration files of its containers.

        Args:
            name: the job.
            request: its CreateTrainingJob request with the validated changes.

        Raises:
            ServiceError: it has ended in the meantime.
        """

        def change(record: Record) -> None:
            status = record.body["TrainingJobStatus"]
            if status != "InProgress":
                raise invalid(f"The training job is in status {status}; expected InProgress.")
            record.private["request"] = request
            reconfigure(record.body, request, record.arn, utc_now())

        record = self._context.store.update(Kind.TRAINING_JOB, name, change)
        with self._lock:
            run = self._runs.get(name)
        if run is not None:
            run.reconfigure(request)
        return record

    def retag(self, name: str) -> None:
        """Let a running job re-read its tags, one of which simulates a spot interruption."""
        with self._lock:
            run = self._runs.get(name)
        if run is not None:
            run.send("tags")

    def metrics(self, name: str) -> list[MetricPoint]:
        """Every metric point of a job so far, in order; none if it does not exist."""
        with self._lock:
            run = self._runs.get(name)
        live = None if run is None else run.metrics()
        if live is not None:
            return live
        return read_metrics(self._context.home.job(Kind.TRAINING_JOB, name) / "metrics.jsonl")

    def last_lines(self, name: str, lines: int) -> list[str]:
        """The last lines of a job's log, from all hosts, oldest first."""
        return self._context.logs.tail(TRAINING_JOBS, f"{name}/algo-", lines)

    def running(self, name: str) -> bool:
        """Whether a job's thread is still running."""
        with self._lock:
            return name in self._threads

    def recover(self) -> None:
        """Restart the unfinished jobs of an earlier server, in their folders."""
        with self._lock:
            for record in self._context.store.every(Kind.TRAINING_JOB):
                known = record.name in self._runs  # created since the server started
                if record.body["TrainingJobStatus"] not in TERMINAL and not known:
                    self._start(record.name)

    def shutdown(self) -> None:
        """Interrupt running jobs with SIGTERM, which lets them save a checkpoint; wait for them."""
        with self._lock:
            self._closing = True
            runs, threads = list(self._runs.values()), list(self._threads.values())
        for run in runs:
            run.send("shutdown")
        for thread in threads:
            thread.join()

    def _start(self, name: str) -> None:
        run = TrainingRun(self._context, name, self._concurrency, self._timing)
        thread = threading.Thread(
            target=self._live, args=(run,), name=f"training job {name}", daemon=True
        )
        self._runs[name], self._threads[name] = run, thread
        thread.start()

    def _live(self, run: TrainingRun) -> None:
        try:
            run.run()
        finally:
            with self._lock:
                self._runs.pop(run.name, None)
                self._threads.pop(run.name, None)

    def _check_image(self, request: dict[str, Any]) -> None:
        """Check that the image can be run here.

        Raises:
            ServiceError: it cannot, or the engine does not respond.
        """
        image = request["AlgorithmSpecification"]["TrainingImage"]
        try:
            self._context.executor.check_image(image)
        except ImageMissing as error:
            raise invalid(f"AlgorithmSpecification.TrainingImage: {error}") from None
        except ExecutorError as error:
            raise ServiceError("InternalFailure", str(error), 500) from None

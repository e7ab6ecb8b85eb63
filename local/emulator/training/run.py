"""The run of a training job, from Pending to its last transition, in its own thread."""

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from local.emulator.context import Context
from local.emulator.executors import ExecutorError, ImageMissing
from local.emulator.store import Kind, Record
from local.emulator.training.archive import (
    MODEL_LEVEL,
    model_files,
    output_files,
    report_files,
    upload,
    upload_plain,
)
from local.emulator.training.channels import BadChannel
from local.emulator.training.cluster import HostEnded, HostLost
from local.emulator.training.concurrency import ConcurrencyLimit
from local.emulator.training.deadlines import deadlines, wait_deadline
from local.emulator.training.describe import (
    end,
    enter,
    model_location,
    output_location,
    report_location,
    seconds_in,
    utc_now,
)
from local.emulator.training.interruptions import Interruption, count
from local.emulator.training.job_attempt import JobAttempt
from local.emulator.training.metrics import MetricPoint
from local.emulator.training.opt_ml import FIRST_HOST, hosts_of
from local.emulator.training.outcome import COMPLETED, STOPPED, TrainingOutcome, failed, first_line
from local.emulator.training.rules import (
    RuleStatuses,
    rules_ended,
    rules_interrupted,
    stopped_by_rule,
)

Request = Literal["stop", "shutdown", "tags"]
AGAIN = "Starting the training job again after its interruption"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingTiming:
    """Times to wait, in seconds.

    Attributes:
        grace: between SIGTERM and SIGKILL (developer guide, StopTrainingJob: 120).
        peer_grace: the same for hosts whose peer failed, which may hang waiting for it.
        retry_pause: before the first retry after an internal error; doubled for each further one.
    """

    grace: float = 120.0
    peer_grace: float = 30.0
    retry_pause: float = 2.0


class TrainingRun:
    """Runs a job that is in the store; `run` is called in its own thread.

    Args:
        context: the region.
        name: the job's name.
        concurrency: limits the number of jobs that run at the same time.
        timing: times to wait.
    """

    def __init__(
        self, context: Context, name: str, concurrency: ConcurrencyLimit, timing: TrainingTiming
    ) -> None:
        self.name = name
        self._context, self._concurrency, self._timing = context, concurrency, timing
        self._events: queue.SimpleQueue[HostEnded | HostLost | Request | Literal["slot"]] = (
            queue.SimpleQueue()
        )
        self._folder = context.home.job(Kind.TRAINING_JOB, name)
        self._attempt: JobAttempt | None = None
        self._record = context.store.get(Kind.TRAINING_JOB, name)  # as last read or written here
        self._request: dict[str, Any] = self._record.private["request"]

    def send(self, what: Request) -> None:
        """Request to stop the job, to interrupt it for a shutdown, or to re-read its tags."""
        self._events.put(what)

    def reconfigure(self, request: dict[str, Any]) -> None:
        """Continue with the changed request of an UpdateTrainingJob; thread-safe."""
        self._request = request
        if self._attempt is not None:
            self._attempt.reconfigure(request)

    def metrics(self) -> list[MetricPoint] | None:
        """The metrics so far; None before the first attempt."""
        return None if self._attempt is None else self._attempt.watch.every()

    def run(self) -> None:
        """Run the job until it ends or the server shuts down; it never raises."""

        def grant() -> None:
            self._events.put("slot")

        self._concurrency.acquire(grant)
        try:
            outcome = self._work()
            if outcome is not None:
                self._finish(outcome)
        except Exception as error:
            _log.exception("training job %s", self.name)
            self._give_up(error)
        finally:
            if self._attempt is not None:
                self._attempt.close()
            self._concurrency.release(grant)

    def _work(self) -> TrainingOutcome | None:
        """Run everything before the upload; None if the server shuts down first."""
        outcome = self._settle()
        if outcome is not None:
            return outcome
        waited = self._wait_for_slot()
        if waited != "go":
            return waited
        while True:
            result = self._try()
            if isinstance(result, TrainingOutcome):
                return result
            if result is None:
                return None
            if self._read().body["TrainingJobStatus"] == "Stopping":
                return STOPPED
            self._note_interruption(result)
            if result.cause == "shutdown":
                return None
            following = self._before_retry(result)
            if following != "go":
                return following
            self._enter("Starting", AGAIN)

    def _settle(self) -> TrainingOutcome | None:
        """Recover the job from an earlier server; return its outcome if that is known."""
        record = self._read()
        if record.private.get("ending"):
            return TrainingOutcome(**record.private["ending"])
        if not self._folder.exists():
            if self._seconds_trained():
                return failed(
                    "InternalServerError: the job cannot be restarted: its folder "
                    f"{self._folder} is missing"
                )
            self._folder.mkdir(parents=True)
        self._prepare().catch_up()
        if record.body["TrainingJobStatus"] == "Stopping":
            return STOPPED
        hosts, executor = len(hosts_of(self._request)), self._context.executor
        if hosts > executor.max_hosts:
            return failed(
                f"ClientError: the job's {hosts} hosts cannot be restarted: the executor is now "
                f"{executor.name}, which runs at most {executor.max_hosts}; use --executor docker "
                "and create the job again"
            )
        last = record.body["SecondaryStatusTransitions"][-1]
        if last["Status"] == "Training":
            seen = self._prepare().last_seen() or last["StartTime"]
            line = "The local SageMaker was killed"
            self._note_interruption(Interruption("crash", line, max(seen, last["StartTime"])))
        if last["Status"] != "Starting":
            self._add_pause()
            self._enter("Starting", AGAIN if self._seconds_trained() else None)
        return None

    def _wait_for_slot(self) -> TrainingOutcome | Literal["go"] | None:
        self._enter("Pending")
        while True:
            match self._next(wait_deadline(self._record, self._request)):
                case "slot":
                    self._enter("Pending", "Preparing the instances for training")
                    return "go"
                case "stop":
                    return STOPPED
                case "shutdown":
                    return None
                case None:
                    return TrainingOutcome("Stopped", "MaxWaitTimeExceeded")

    def _try(self) -> TrainingOutcome | Interruption | None:
        """Make an attempt: write the data, start the containers, wait for their end.

        Returns:
            None if the server shuts down before the containers have started.
        """
        self._enter("Downloading")
        attempt = self._prepare()
        try:
            try:
                # After the first attempt, the local checkpoints are newer than those in S3.
                attempt.lay_out(restore=not self._seconds_trained())
            except (BadChannel, OSError) as error:
                return failed(f"ClientError: Data download failed: {first_line(error)}")
            match self._next(time.monotonic()):
                case "stop":
                    return STOPPED
                case "shutdown":
                    return None
            self._enter("Training")
            try:
                attempt.start(self._events.put)
            except ImageMissing as error:
                return failed(f"ClientError: the training image cannot be used: {error}")
            except ExecutorError as error:
                return self._explain(error)
            result = self._watch(attempt)
            if isinstance(result, TrainingOutcome) and result.status == "Completed":
                attempt.note_unseen()
        finally:
            attempt.end()
        if isinstance(result, HostEnded):
            return failed(attempt.failure(result.rank, result.status))
        return result

    def _explain(self, error: ExecutorError) -> TrainingOutcome | Interruption:
        """Why a container did not start: the engine failed, or the request cannot be run."""
        try:
            self._context.executor.check_image(self._image)
        except ImageMissing as missing:
            return failed(f"ClientError: the training image cannot be used: {missing}")
        except ExecutorError:
            return Interruption("engine", str(error), utc_now())
        return failed(f"ClientError: the container cannot be started: {error}")

    def _watch(self, attempt: JobAttempt) -> TrainingOutcome | Interruption | HostEnded:
        """Wait for the hosts' end, a deadline or a request; return the host that failed, if any."""
        began = time.monotonic()
        due_at = self._deadlines(began)
        running = attempt.size
        while running:
            due = min(due_at, key=lambda kind: due_at[kind])
            event = self._next(due_at[due])
            now = utc_now()
            match event:
                case HostEnded(_, 0):
                    running -= 1
                    continue
                case HostEnded():
                    attempt.stop(self._timing.peer_grace)
                    return event
                case HostLost(_, line):
                    attempt.stop(self._timing.grace)
                    return Interruption("engine", line, now)
                case "stop":
                    attempt.stop(self._timing.grace)
                    return STOPPED
                case "shutdown":
                    attempt.stop(self._timing.grace)
                    return Interruption("shutdown", "The local SageMaker was stopped", now)
                case "tags":
                    due_at = self._deadlines(began)
                    continue
            if due == "spot":
                attempt.stop(self._timing.grace)
                return Interruption("spot", "The managed spot instance was interrupted", now)
            outcome = TrainingOutcome("Stopped", due)
            self._decide(outcome, "Stopping")
            attempt.stop(self._timing.grace)
            return outcome
        if stopped_by_rule(self._request, self._folder / FIRST_HOST):
            # On AWS the rule's action calls StopTrainingJob.
            self._decide(STOPPED, "Stopping")
            return STOPPED
        return COMPLETED

    def _deadlines(self, began: float) -> dict[str, float]:
        tags = self._context.store.tags(self._record.arn)
        return deadlines(self._record, self._request, tags, began)

    def _note_interruption(self, interruption: Interruption) -> None:
        """Record an interruption, and prepare the trees for the next attempt."""
        attempt = self._prepare()
        saved = attempt.last_checkpoint()
        rules = rules_interrupted(self._record.body, self._folder / FIRST_HOST, utc_now())

        def change(record: Record) -> None:
            record.body |= rules
            interruption.record(record, self._request, saved)

        self._update(change)
        attempt.clear_outputs(keep_checkpoints=interruption.keeps_checkpoints(self._request))

    def _before_retry(self, interruption: Interruption) -> TrainingOutcome | Literal["go"] | None:
        """Wait before another attempt; RetryStrategy limits those after internal errors."""
        if interruption.cause != "engine":
            return "go"
        used = count(self._record, "engine") - 1
        if used >= self._request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0):
            return failed(f"InternalServerError: {interruption.line}")
        pause = time.monotonic() + self._timing.retry_pause * 2**used
        while True:
            match self._next(pause):
                case "stop":
                    return STOPPED
                case "shutdown":
                    return None
                case None:
                    return "go"

    def _finish(self, outcome: TrainingOutcome) -> None:
        """Upload the results, free the disk, and make the last transition."""
        attempt = self._prepare()
        rules = self._final_rules(outcome)
        if self._seconds_trained():
            self._decide(outcome, "Uploading", rules)
            try:
                self._upload(attempt, with_model=outcome.status != "Failed")
            except OSError as error:
                _log.warning("training job %s: %s", self.name, error)
                if outcome.status != "Failed":
                    outcome = failed(
                        f"ClientError: Artifact upload failed: {first_line(error)}; the results "
                        f"are still in {self._folder}"
                    )
            else:
                attempt.clear()
        else:
            attempt.clear()
        final = attempt.watch.final()

        def change(record: Record) -> None:
            record.body |= rules
            if record.body["TrainingJobStatus"] == "Stopping" and outcome.status == "Completed":
                end(record.body, "Stopped", "Stopped", utc_now())
            else:
                end(record.body, outcome.status, outcome.secondary, utc_now(), outcome.reason)
            if final:
                record.body["FinalMetricDataList"] = final

        self._update(change)

    def _final_rules(self, outcome: TrainingOutcome) -> RuleStatuses:
        """The rules' final statuses, which are read before the container's files are deleted."""
        body = self._read().body
        stopped = body["TrainingJobStatus"] == "Stopping" and outcome.status == "Completed"
        how = "Stopped" if stopped else outcome.status
        return rules_ended(body, self._folder / FIRST_HOST, how, utc_now())

    def _decide(
        self, outcome: TrainingOutcome, status: str, rules: RuleStatuses | None = None
    ) -> None:
        """Record how the job will end, so that it ends the same way after a crash."""

        def change(record: Record) -> None:
            record.private["ending"] = asdict(outcome)
            record.body |= rules or {}
            enter(record.body, status, utc_now())

        self._update(change)

    def _upload(self, attempt: JobAttempt, *, with_model: bool) -> None:
        objects = self._context.objects
        trees = attempt.trees
        attempt.sync()
        if with_model:
            model = model_files(tree.base for _, tree in trees)
            place = model_location(self._request)
            if place.key.endswith("/"):
                upload_plain(objects, model, place)
            else:
                upload(objects, model, place, self._folder, MODEL_LEVEL)
        report = report_location(self._request)
        if report is not None:
            upload_plain(objects, report_files(self._folder / FIRST_HOST), report)
        output = output_files((host.name, tree.base) for host, tree in trees)
        upload(objects, output, output_location(self._request) / "output.tar.gz", self._folder)

    def _give_up(self, error: Exception) -> None:
        """Fail the job after an internal error; its hosts have already been removed."""
        reason = f"InternalServerError: {first_line(error)}; see the server's log"

        try:
            rules = self._final_rules(failed(reason))
            if self._attempt is not None:
                self._attempt.clear()

            def change(record: Record) -> None:
                record.body |= rules
                end(record.body, "Failed", "Failed", utc_now(), reason)

            self._update(change)
        except Exception:
            _log.exception("training job %s: cannot record its failure", self.name)

    def _prepare(self) -> JobAttempt:
        if self._attempt is None:
            self._attempt = JobAttempt(
                self._context, self._request, self._record.arn, self._record.private.get("cpus")
            )
        return self._attempt

    def _next(
        self, deadline: float | None
    ) -> HostEnded | HostLost | Request | Literal["slot"] | None:
        """Wait for the next event; None after the deadline (`time.monotonic`)."""
        while True:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                event = self._events.get(timeout=timeout)
            except queue.Empty:
                return None
            # Ignore late events of an earlier attempt.
            if isinstance(event, str) or (self._attempt is not None and self._attempt.owns(event)):
                return event

    def _enter(self, status: str, message: str | None = None) -> None:
        def change(record: Record) -> None:
            if record.body["TrainingJobStatus"] != "Stopping":
                enter(record.body, status, utc_now(), message)

        self._update(change)

    def _add_pause(self) -> None:
        """Exclude the time without a server from the job's waiting time."""

        def change(record: Record) -> None:
            last = record.body["SecondaryStatusTransitions"][-1]
            gone = (utc_now() - last["StartTime"]).total_seconds()
            record.private["paused_seconds"] = record.private.get("paused_seconds", 0.0) + gone

        self._update(change)

    def _seconds_trained(self) -> float:
        return seconds_in(self._record.body, "Training", utc_now())

    def _read(self) -> Record:
        """Re-read the record, which API calls and tuning jobs may have changed."""
        self._record = self._context.store.get(Kind.TRAINING_JOB, self.name)
        return self._record

    def _update(self, change: Callable[[Record], None]) -> None:
        self._record = self._context.store.update(Kind.TRAINING_JOB, self.name, change)

    @property
    def _image(self) -> str:
        return str(self._request["AlgorithmSpecification"]["TrainingImage"])

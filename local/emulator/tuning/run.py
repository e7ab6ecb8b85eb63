"""The run of a tuning job, from its first trial to its end."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from container.cpus import available_cpus
from local.emulator.context import Context
from local.emulator.errors import ServiceError
from local.emulator.executors import ExecutorError
from local.emulator.store import Exists, Kind, Missing, Record
from local.emulator.training.metrics import MetricPoint
from local.emulator.tuning import parents, progress, search, stopping
from local.emulator.tuning import trials as trials_of
from local.emulator.tuning.plan import read
from local.emulator.tuning.progress import TuningOutcome
from local.emulator.tuning.ranges import Value
from local.emulator.tuning.trials import Reason, TuningTrial
from local.statuses import TERMINAL

ACCOUNTED = 5.0
"""Seconds between two updates of the stored runtime, which a killed server may lose."""

logger = logging.getLogger(__name__)


class TrainingService(Protocol):
    """The interface of `training.jobs.TrainingJobs` that tuning jobs use."""

    def create(
        self, request: dict[str, Any], *, tuning_job_arn: str | None = None, cpus: int | None = None
    ) -> Record:
        """Start a training job."""

    def stop(self, name: str) -> None:
        """Stop a training job."""

    def metrics(self, name: str) -> list[MetricPoint]:
        """Every metric point so far, in order."""

    def last_lines(self, name: str, lines: int) -> list[str]:
        """The last lines of its log."""


class TuningRun:
    """A running tuning job. All of its state is in the store, so that another run can resume it.

    Each step updates the running trials, stops those that lose early, ends the job if a completion
    criterion is met, and starts new trials. Decisions are stored before they are executed: a
    trial's name and hyperparameters before CreateTrainingJob, a stop before StopTrainingJob. After
    a crash, the same decision is executed again.
    """

    def __init__(
        self,
        context: Context,
        training: TrainingService,
        name: str,
        closing: threading.Event,
        poll: float,
    ) -> None:
        self._context, self._training = context, training
        self._name, self._closing, self._poll = name, closing, poll
        record = context.store.get(Kind.TUNING_JOB, name)
        self.plan = read(record.private["request"])
        self._seed: int = record.private["seed"]
        self._before: float = record.private["seconds"]
        self._inherited = parents.load(record.private["inherited"])
        self._started = self._kept = time.monotonic()
        stored = trials_of.load(record.private["trials"])
        self._found = {each.name for each in stored if each.status is None}
        self._judged: dict[str, int] = {}
        self._stop_requested: set[str] = set()
        self._stored: tuple[object, ...] = ()

    def __call__(self) -> None:
        """Run until the tuning job ends or the server shuts down."""
        broken: TuningOutcome | None = None
        store = self._context.store
        while not self._closing.is_set():
            seen = store.writes
            try:
                if self._step(broken):
                    return
            except Exception as error:
                if self._closing.is_set():
                    return
                logger.exception("tuning job %s", self._name)
                reason = f"InternalServerError: {type(error).__name__}: {error}"
                if broken is not None:
                    self._finish(trials_of.load(self._record().private["trials"]), broken)
                    return
                broken = TuningOutcome("Failed", reason)
            store.wait(seen, self._poll)

    def _step(self, broken: TuningOutcome | None) -> bool:
        """Make a step, and return whether the tuning job has ended.

        Args:
            broken: the outcome after an internal error; None if there was none.
        """
        record = self._record()
        trials = trials_of.load(record.private["trials"])
        outcome = TuningOutcome(**record.private["ending"]) if record.private["ending"] else broken
        refused = self._follow(trials, outcome)
        outcome = outcome or refused or progress.verdict(self.plan, trials, self._seconds)
        running = [each for each in trials if each.status is None]
        if outcome is not None:
            for each in running:
                each.stopped_by = each.stopped_by or "ending"
        outcome = self._keep(trials, outcome)
        for each in running:
            if each.stopped_by and each.name not in self._stop_requested:
                self._stop(each)
        if outcome is None:
            self._fill(trials)
            return False
        if not running:
            self._finish(trials, outcome)
        return not running

    def _follow(
        self, trials: list[TuningTrial], outcome: TuningOutcome | None
    ) -> TuningOutcome | None:
        """Update the running trials; return the outcome if a training job was rejected."""
        judging = self.plan.early or self.plan.strategy == "Hyperband"
        reports = {
            each.number: self._reports(each) if judging and each.status is None else each.reports
            for each in trials
        }
        for trial in [each for each in trials if each.status is None]:
            job = self._job(trial.name)
            if job is None:
                if outcome is not None:
                    trials.remove(trial)
                elif refused := self._create(trial):
                    trials.remove(trial)
                    return refused
                continue
            status = job.body["TrainingJobStatus"]
            if status in TERMINAL:
                trial.status, trial.reports = status, self._reports(trial, job)
                trial.ended = (job.body.get("TrainingEndTime") or job.modified).timestamp()
                failure = job.body.get("FailureReason") or ""
                trial.retryable = status == "Failed" and failure.startswith("InternalServerError")
                self._mark(trial)
                if trial.retryable and trial.name in self._found:
                    logger.info("%s was lost: retrying its hyperparameters", trial.name)
                    values = dict(trial.values)
                    trials.append(trials_of.fresh(self.plan, len(trials), trial.number, values))
            elif trial.stopped_by is None:
                trial.stopped_by = self._judge(trial, trials, reports)
        return None

    def _judge(
        self, trial: TuningTrial, trials: Sequence[TuningTrial], reports: dict[int, list[float]]
    ) -> Reason | None:
        """The reason to stop a running trial early, if any; each report is checked once."""
        seen, own = self._judged.get(trial.name, 0), reports[trial.number]
        self._judged[trial.name] = max(seen, len(own))
        direction = self.plan.direction
        bands = self.plan.definitions[trial.definition].hyperband
        alike = [each for each in trials if each.definition == trial.definition]
        place = {each.number: self.plan.place(each.number)[1] for each in alike}
        others = {
            place[number]: each
            for number, each in reports.items()
            if number in place and number != trial.number
        }
        ended = [each.reports for each in alike if each.status in ("Completed", "Stopped")]
        for step in range(seen + 1, len(own) + 1):
            if bands is not None and step >= bands.high:
                return "resource"
            if bands is not None and bands.loses(
                direction, place[trial.number], own[:step], others
            ):
                return "bracket"
            if self.plan.early and stopping.below_median(direction, own[:step], ended):
                return "median"
        return None

    def _fill(self, trials: list[TuningTrial]) -> None:
        """Start trials up to the limits."""
        plan = self.plan
        while (
            len({each.number for each in trials}) < plan.total
            and sum(each.status is None for each in trials) < plan.parallel
            and not self._closing.is_set()
        ):
            number = max((each.number for each in trials), default=-1) + 1
            values = self._propose(number, trials)
            trials.append(trials_of.fresh(plan, len(trials), number, values))
            if self._keep(trials, None) is not None:
                return  # stopped in the meantime: the next step removes the trial
            refused = self._create(trials[-1])
            if refused is not None:
                trials.pop()
                self._keep(trials, refused)
                return

    def _propose(self, number: int, trials: Sequence[TuningTrial]) -> dict[str, Value]:
        plan = self.plan
        index, place = plan.place(number)
        space = plan.definitions[index].space
        match plan.strategy:
            case "Grid":
                return search.grid(space)[place]
            case "Random":
                return search.randomly(space, self._seed, number)
            case "Bayesian" | "Hyperband":
                own = [each.known() for each in trials if each.definition == index]
                if self._inherited and not plan.identical:
                    own = search.standardized(own)
                known = [*self._inherited, *own]
                return search.bayesian(space, plan.direction, self._seed, number, known)

    def _create(self, trial: TuningTrial) -> TuningOutcome | None:
        """Create the trial's training job; return the tuning job's outcome if it was rejected."""
        record = self._record()
        try:
            self._training.create(
                trials_of.training_request(self.plan, trial, self._context.executor.max_hosts),
                tuning_job_arn=record.arn,
                cpus=max(1, available_cpus() // min(self.plan.parallel, self.plan.total)),
            )
        except Exists as taken:
            return TuningOutcome(
                "Failed", f"A training job could not be started: {taken} already exists"
            )
        except (ServiceError, ExecutorError, OSError) as error:
            if self._closing.is_set():
                return None
            return TuningOutcome("Failed", f"A training job could not be started: {error}")
        self._mark(trial)
        return None

    def _mark(self, trial: TuningTrial) -> None:
        """Store the trial's results in its training job's record."""
        facts = trials_of.facts(self.plan, trial)

        def change(job: Record) -> None:
            job.private["tuning"] = facts

        self._context.store.update(Kind.TRAINING_JOB, trial.name, change)

    def _stop(self, trial: TuningTrial) -> None:
        self._stop_requested.add(trial.name)
        try:
            self._training.stop(trial.name)
        except ServiceError:
            logger.info("%s has already ended", trial.name)

    def _reports(self, trial: TuningTrial, job: Record | None = None) -> list[float]:
        """The values of the objective that a trial has emitted, in order."""
        metric = self.plan.definitions[trial.definition].metric
        try:
            points = self._training.metrics(trial.name)
        except (ServiceError, Missing):
            points = []
        values = [point.value for point in points if point.name == metric]
        if not values and job is not None:
            final = job.body.get("FinalMetricDataList") or []
            values = [each["Value"] for each in final if each["MetricName"] == metric]
        return values

    def _keep(
        self, trials: Sequence[TuningTrial], outcome: TuningOutcome | None
    ) -> TuningOutcome | None:
        """Store the state if it changed; return the outcome, which a stop request may have set."""
        stored = [each.stored() for each in trials]
        state: tuple[object, ...] = (stored, outcome)
        late = time.monotonic() - self._kept >= ACCOUNTED
        if state == self._stored and not late:
            return outcome
        shown = self._shown(trials)

        def change(record: Record) -> None:
            record.private["trials"], record.private["seconds"] = stored, self._seconds
            if outcome is not None and record.private["ending"] is None:
                record.private["ending"] = asdict(outcome)
            record.body.update(shown)
            details = record.body["TuningJobCompletionDetails"]
            direction = self.plan.direction
            details["NumberOfTrainingJobsObjectiveNotImproving"] = progress.not_improving(
                direction, trials
            )
            if progress.converged(direction, trials):
                details.setdefault("ConvergenceDetectedTime", datetime.now(UTC))

        record = self._context.store.update(Kind.TUNING_JOB, self._name, change)
        self._stored, self._kept = state, time.monotonic()
        return TuningOutcome(**record.private["ending"]) if record.private["ending"] else None

    def _shown(self, trials: Sequence[TuningTrial]) -> dict[str, Any]:
        """The members of the Describe response that change."""
        shown: dict[str, Any] = {
            "TrainingJobStatusCounters": progress.training_counters(trials),
            "ObjectiveStatusCounters": progress.objective_counters(trials),
            "ConsumedResources": {"RuntimeInSeconds": round(self._seconds)},
        }
        top = progress.best(self.plan.direction, trials)
        if top is not None and (job := self._job(top.name)) is not None:
            shown["BestTrainingJob"] = trials_of.summary(job)
            own = {**shown["BestTrainingJob"], "TuningJobName": self._name}
            if self.plan.identical:
                before = self._record().body.get("OverallBestTrainingJob")
                shown["OverallBestTrainingJob"] = parents.overall(
                    self.plan, [own] if before is None else [before, own]
                )
        return shown

    def _finish(self, trials: Sequence[TuningTrial], outcome: TuningOutcome) -> None:
        """Store the final state, after all trials have ended."""
        status, reason = outcome.status, outcome.reason
        if status != "Stopped" and reason is None:
            reason = progress.failure(
                self.plan, trials, self._failure_of, self._training.last_lines
            )
            status = "Completed" if reason is None else "Failed"
        shown = self._shown(trials)

        def change(record: Record) -> None:
            record.private["seconds"] = self._seconds
            record.body.update(shown)
            record.body["HyperParameterTuningJobStatus"] = status
            record.body["HyperParameterTuningEndTime"] = datetime.now(UTC)
            if reason is not None:
                record.body["FailureReason"] = reason[: progress.FAILURE_REASON]

        self._context.store.update(Kind.TUNING_JOB, self._name, change)

    def _failure_of(self, name: str) -> str:
        job = self._job(name)
        return str((job and job.body.get("FailureReason")) or "no reason given")

    def _job(self, name: str) -> Record | None:
        """A trial's training job; None if it was never created or has been deleted."""
        try:
            return self._context.store.get(Kind.TRAINING_JOB, name)
        except Missing:
            return None

    def _record(self) -> Record:
        return self._context.store.get(Kind.TUNING_JOB, self._name)

    @property
    def _seconds(self) -> float:
        """The runtime of the tuning job, excluding time without a server."""
        return self._before + time.monotonic() - self._started

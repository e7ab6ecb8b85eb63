"""Tuning jobs: create, stop, and recover after a restart.

Trials are ordinary training jobs (`trials`), Optuna chooses their hyperparameters (`search`), and
each tuning job has a thread (`run`).
"""

import secrets
import threading
from datetime import UTC, datetime
from typing import Any

from local.emulator.context import Context
from local.emulator.errors import invalid, not_found
from local.emulator.store import Kind, Missing, Record
from local.emulator.tuning import parents
from local.emulator.tuning.plan import read
from local.emulator.tuning.progress import TuningOutcome, objective_counters, training_counters
from local.emulator.tuning.run import TrainingService, TuningRun

POLL_SECONDS = 0.5
REPEATED = (
    "HyperParameterTuningJobName",
    "HyperParameterTuningJobConfig",
    "TrainingJobDefinition",
    "TrainingJobDefinitions",
    "WarmStartConfig",
)
"""Members of the request that the Describe response repeats."""


class TuningJobs:
    """Runs a region's tuning jobs; thread-safe.

    Args:
        context: the region.
        training: runs the trials.
        poll: seconds between two checks of the running trials if the store does not change.
    """

    def __init__(
        self, context: Context, training: TrainingService, *, poll: float = POLL_SECONDS
    ) -> None:
        self._context, self._training, self._poll = context, training, poll
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def create(self, request: dict[str, Any]) -> Record:
        """Start a tuning job from a validated request, without waiting for it.

        Raises:
            Exists: the name is in use.
        """
        plan, store = read(request), self._context.store
        arn = self._context.arn(Kind.TUNING_JOB, plan.name)
        seed = request["HyperParameterTuningJobConfig"].get("RandomSeed")
        private: dict[str, Any] = {
            "request": request,
            "seed": secrets.randbits(32) if seed is None else seed,
            "trials": [],
            "ending": None,
            "seconds": 0.0,
            "inherited": parents.inherited(plan, store),
        }
        body = _description(request, arn)
        earlier = parents.best(plan, store)
        if earlier is not None:
            body["OverallBestTrainingJob"] = earlier
        record = store.add(Kind.TUNING_JOB, plan.name, arn, body, private)
        if plan.tags:
            store.tag(arn, {each["Key"]: each["Value"] for each in plan.tags})
        self._start(plan.name)
        return record

    def stop(self, name: str) -> None:
        """Stop a tuning job and its running trials, without waiting for them.

        Raises:
            ServiceError: the job does not exist or has ended.
        """

        def change(record: Record) -> None:
            status = record.body["HyperParameterTuningJobStatus"]
            if status not in ("InProgress", "Stopping"):
                raise invalid(
                    "The request was rejected because the hyperparameter tuning job is in status "
                    f"{status}."
                )
            record.body["HyperParameterTuningJobStatus"] = "Stopping"
            record.private["ending"] = {"status": TuningOutcome("Stopped").status, "reason": None}

        try:
            self._context.store.update(Kind.TUNING_JOB, name, change)
        except Missing:
            raise not_found("Requested resource not found.") from None

    def recover(self) -> None:
        """Resume the tuning jobs that were running in an earlier server.

        Running trials are followed. A trial without a training job gets one with the same
        hyperparameters.
        """
        for record in self._context.store.every(Kind.TUNING_JOB):
            if record.body["HyperParameterTuningJobStatus"] in ("InProgress", "Stopping"):
                self._start(record.name)

    def shutdown(self) -> None:
        """Stop starting trials, for `recover` to resume; call it before TrainingJobs.shutdown."""
        self._closing.set()
        self._context.store.wake()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _start(self, name: str) -> None:
        run = TuningRun(self._context, self._training, name, self._closing, self._poll)
        thread = threading.Thread(target=run, name=f"tuning {name}", daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            thread.start()
            self._threads.append(thread)


def _description(request: dict[str, Any], arn: str) -> dict[str, Any]:
    """The Describe response right after CreateHyperParameterTuningJob."""
    now = datetime.now(UTC)
    body = {
        "HyperParameterTuningJobArn": arn,
        "HyperParameterTuningJobStatus": "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
        "TrainingJobStatusCounters": training_counters([]),
        "ObjectiveStatusCounters": objective_counters([]),
        "TuningJobCompletionDetails": {"NumberOfTrainingJobsObjectiveNotImproving": 0},
        "ConsumedResources": {"RuntimeInSeconds": 0},
    }
    return body | {key: request[key] for key in REPEATED if key in request}

"""Batch transform jobs: start a model, run the transform and stop the model."""

import functools
import logging
import random
import secrets
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from local.emulator.context import Context
from local.emulator.errors import invalid, not_found
from local.emulator.hosting.describe import set_reason
from local.emulator.hosting.fleet import DeploymentFailed, Fleet
from local.emulator.hosting.instances import HostingTiming
from local.emulator.hosting.variants import Variant, read_model
from local.emulator.store import Kind, Missing, Record
from local.emulator.transform.run import STRATEGIES, Stopped, TransformFailed, TransformRun
from local.log_groups import TRANSFORM_JOBS

_log = logging.getLogger(__name__)

_SHOWN = (
    "TransformJobName",
    "ModelName",
    "MaxConcurrentTransforms",
    "ModelClientConfig",
    "MaxPayloadInMB",
    "BatchStrategy",
    "Environment",
    "TransformInput",
    "TransformOutput",
    "TransformResources",
    "DataProcessing",
)


class TransformJobs:
    """Runs all transform jobs of a region.

    Args:
        context: the region's context.
        timing: timeouts and intervals, for tests.
    """

    def __init__(self, context: Context, *, timing: HostingTiming | None = None) -> None:
        self._context = context
        self._timing = timing or HostingTiming()
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._closing = False

    def create(self, request: dict[str, Any]) -> Record:
        """Add a job and start it in the background.

        Raises:
            Exists: the name is in use.
            ServiceError: the model does not exist.
        """
        name = request["TransformJobName"]
        self._variant(request)
        body = {member: request[member] for member in _SHOWN if member in request} | {
            "TransformJobArn": self._context.arn(Kind.TRANSFORM_JOB, name),
            "TransformJobStatus": "InProgress",
            "CreationTime": datetime.now(UTC),
        }
        arn = body["TransformJobArn"]
        record = self._context.store.add(Kind.TRANSFORM_JOB, name, arn, body, {"request": request})
        self._context.store.tag(arn, {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])})
        self._spawn(name, request)
        return record

    def stop(self, name: str) -> None:
        """Stop a job: send no more requests and stop its containers.

        Raises:
            ServiceError: it does not exist or is not in progress.
        """

        def begin(record: Record) -> None:
            status = record.body["TransformJobStatus"]
            if status != "InProgress":
                raise invalid(
                    f"The request was rejected because the transform job is in status {status}."
                )
            record.body["TransformJobStatus"] = "Stopping"

        try:
            self._context.store.update(Kind.TRANSFORM_JOB, name, begin)
        except Missing:
            raise not_found("Requested resource not found.") from None
        with self._lock:
            running = self._running.get(name)
        if running is not None:
            running.stop()

    def recover(self) -> None:
        """Restart the running jobs of an earlier server; end the jobs it was stopping."""
        for record in self._context.store.every(Kind.TRANSFORM_JOB):
            status = record.body["TransformJobStatus"]
            if status == "Stopping":
                folder = self._context.home.job("transform-job", record.name)
                shutil.rmtree(folder, ignore_errors=True)
                self._end(record.name, "Stopped")
            elif status == "InProgress":
                self._spawn(record.name, record.private["request"])

    def shutdown(self) -> None:
        """Interrupt running jobs; they stay InProgress for `recover`."""
        with self._lock:
            self._closing = True
            every = list(self._running.values())
        for running in every:
            running.stop()
        for running in every:
            running.thread.join()

    def _spawn(self, name: str, request: dict[str, Any]) -> None:
        running = _Running(functools.partial(self._run, name, request))
        with self._lock:
            if self._closing:
                return
            self._running[name] = running
        running.thread.start()

    def _run(self, name: str, request: dict[str, Any], running: "_Running") -> None:
        try:
            status, reason = self._outcome(name, request, running)
        except Exception as error:
            _log.exception("transform job %s", name)
            self._end(name, "Failed", f"InternalError: {type(error).__name__}: {error}")
        else:
            if status is not None:
                self._end(name, status, reason)
        finally:
            with self._lock:
                self._running.pop(name, None)

    def _outcome(
        self, name: str, request: dict[str, Any], running: "_Running"
    ) -> tuple[str | None, str | None]:
        """Run a job; return status and FailureReason, or None if a later server restarts it."""
        folder = self._context.home.job("transform-job", name)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        log = self._context.logs.open(
            TRANSFORM_JOBS, f"{name}/i-{secrets.token_hex(9)[:17]}/data-log"
        )
        fleet = Fleet(
            self._context,
            owner=f"transform-{name}",
            folder=folder / "fleet",
            log_group=TRANSFORM_JOBS,
            variants=[self._variant(request)],
            choices=random.Random(0),  # noqa: S311 - there is only one variant
            timing=self._timing,
            on_change=lambda: None,
            stream_prefix=name,
            subject="the transform job",
            extra=_environment(request),
        )
        running.fleet = fleet
        try:
            running.check()
            fleet.start()
            self._started(name)
            TransformRun(
                self._context,
                request,
                fleet,
                stopping=running.stopping,
                folder=folder / "data",
                log=log,
                timing=self._timing,
            ).work()
        except (DeploymentFailed, TransformFailed, Stopped, OSError) as error:
            if running.stopping.is_set():
                return (None if self._closing else "Stopped"), None
            kind = "AlgorithmError: " if isinstance(error, DeploymentFailed) else ""
            return "Failed", f"{kind}{error}"
        finally:
            fleet.stop(drain=False)
            log.close()
            shutil.rmtree(folder, ignore_errors=True)
        return "Completed", None

    def _variant(self, request: dict[str, Any]) -> Variant:
        resources = request["TransformResources"]
        variant = read_model(
            self._context,
            request["ModelName"],
            name="model",
            count=resources["InstanceCount"],
            instance_type=resources["InstanceType"],
        )
        variant.environment.update(request.get("Environment", {}))
        return variant

    def _started(self, name: str) -> None:
        def show(record: Record) -> None:
            record.body["TransformStartTime"] = datetime.now(UTC)

        self._context.store.update(Kind.TRANSFORM_JOB, name, show)

    def _end(self, name: str, status: str, reason: str | None = None) -> None:
        def show(record: Record) -> None:
            record.body["TransformJobStatus"] = status
            record.body["TransformEndTime"] = datetime.now(UTC)
            set_reason(record.body, reason)

        self._context.store.update(Kind.TRANSFORM_JOB, name, show)


class _Running:
    """The thread of a running job, and its stop event."""

    def __init__(self, work: Callable[["_Running"], None]) -> None:
        self.stopping = threading.Event()
        self.fleet: Fleet | None = None
        self.thread = threading.Thread(target=work, args=(self,), name="transform", daemon=True)

    def check(self) -> None:
        """Raise `Stopped` if it was stopped before its fleet was created."""
        if self.stopping.is_set():
            raise Stopped

    def stop(self) -> None:
        """Send no more requests, and stop the containers, which ends requests in flight."""
        self.stopping.set()
        if self.fleet is not None:
            self.fleet.stop(drain=False)


def _environment(request: dict[str, Any]) -> dict[str, str]:
    """Environment variables that describe the job; only parameters that the request sets."""
    environment = {"SAGEMAKER_BATCH": "true"}
    if "MaxPayloadInMB" in request:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(request["MaxPayloadInMB"])
    if "BatchStrategy" in request:
        environment["SAGEMAKER_BATCH_STRATEGY"] = STRATEGIES[request["BatchStrategy"]]
    if request.get("MaxConcurrentTransforms"):
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(request["MaxConcurrentTransforms"])
    return environment

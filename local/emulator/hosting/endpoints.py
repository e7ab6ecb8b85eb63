"""Endpoints: creation, blue/green updates, health, deletion, and recovery after a server restart.

Statuses are AWS's; two have a local meaning. `OutOfService`: no container passes its health check
(failed containers are restarted; the first healthy one makes the endpoint `InService`).
`SystemUpdating`: a restarted server is starting the containers. An update shifts all traffic at
once and ignores the steps and wait intervals of the DeploymentConfig.
"""

import contextlib
import functools
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from local import log_groups
from local.emulator.background import Background
from local.emulator.context import Context
from local.emulator.errors import ServiceError, invalid
from local.emulator.hosting.async_invocations import AsyncInvocations
from local.emulator.hosting.data_capture import DataCapture
from local.emulator.hosting.deployment import ActiveEndpoint, EndpointDeployment
from local.emulator.hosting.describe import (
    describe_config,
    pending_summary,
    refuse_busy,
    set_reason,
    show_health,
    show_restart,
    variant_summaries,
    want_weights,
)
from local.emulator.hosting.fleet import DeploymentFailed, Fleet
from local.emulator.hosting.instances import HostingTiming
from local.emulator.hosting.invocations import InvocationLimits
from local.emulator.hosting.metrics import EndpointMetrics
from local.emulator.hosting.ttl import TtlTimers, read_ttl
from local.emulator.store import Kind, Missing, Record

NO_CONTAINERS = "No container of the endpoint runs that could be updated."
_RETRY_DELETE = 5.0


class Endpoints:
    """Runs all endpoints of a region.

    Attributes:
        asynchronous: the queues of asynchronous invocations.
        metrics: CloudWatch metrics of invocations.

    Args:
        context: the region's context.
        timing: timeouts and intervals, for tests.
        limits: limits of asynchronous invocations, for tests.
        seed: seed for the choice of variants and for sampling; None for a random one.
    """

    def __init__(
        self,
        context: Context,
        *,
        timing: HostingTiming | None = None,
        limits: InvocationLimits | None = None,
        seed: int | None = None,
    ) -> None:
        self._context = context
        self._timing = timing or HostingTiming()
        self._choices = random.Random(seed)  # noqa: S311 - no secret depends on it
        self._active: dict[str, ActiveEndpoint] = {}
        self._starting: dict[str, Fleet] = {}
        self._background = Background()
        self.metrics = EndpointMetrics(context.logs)
        self.asynchronous = AsyncInvocations(
            context,
            limits or InvocationLimits(),
            self.metrics,
            lambda name, active: self.active(name) is active,
        )
        self._ttl_timers = TtlTimers(self._expire)
        self._lock = threading.RLock()
        self._closing = False

    def active(self, name: str) -> ActiveEndpoint | None:
        """The endpoint with its containers; None if it has none."""
        return self._active.get(name)

    def create(self, request: dict[str, Any]) -> Record:
        """Add an endpoint and start it in the background.

        Raises:
            Exists: the name is in use.
            ServiceError: the configuration or a model does not exist.
        """
        name = request["EndpointName"]
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        lifetime = read_ttl(tags)
        deployment = EndpointDeployment.read(self._context, request["EndpointConfigName"])
        now = datetime.now(UTC)
        arn = self._context.arn(Kind.ENDPOINT, name)
        body: dict[str, Any] = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointStatus": "Creating",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        describe_config(body, deployment)
        private = {
            "deployment": deployment.dump(),
            "pending": None,
            "generation": 0,
            "lifetime": lifetime,
            "expires": None,
        }
        record = self._context.store.add(Kind.ENDPOINT, name, arn, body, private)
        self._context.store.tag(arn, tags)
        self._spawn(name, functools.partial(self._bring_up, name))
        return record

    def update(self, request: dict[str, Any]) -> Record:
        """Deploy another configuration: start a new fleet, then shift traffic to it.

        Raises:
            ServiceError: the endpoint or configuration does not exist, or the endpoint is busy or
                failed.
        """
        name = request["EndpointName"]
        deployment = EndpointDeployment.read(self._context, request["EndpointConfigName"])
        started = datetime.now(UTC)

        def begin(record: Record) -> None:
            refuse_busy(record.body)
            wanted = deployment.retaining(request, self._running(record).deployment)
            record.private["pending"] = wanted.dump()
            record.body["EndpointStatus"] = "Updating"
            record.body["PendingDeploymentSummary"] = pending_summary(wanted, started)
            set_reason(record.body, None)
            if "DeploymentConfig" in request:
                record.body["LastDeploymentConfig"] = request["DeploymentConfig"]
            elif not request.get("RetainDeploymentConfig"):
                record.body.pop("LastDeploymentConfig", None)

        record = self._change(name, begin)
        self._spawn(name, functools.partial(self._replace, name))
        return record

    def update_weights(self, request: dict[str, Any]) -> Record:
        """Change weights and counts of variants (UpdateEndpointWeightsAndCapacities).

        Raises:
            ServiceError: the endpoint or a variant does not exist, or the endpoint is busy or
                failed.
        """
        name = request["EndpointName"]
        wanted = {one["VariantName"]: one for one in request["DesiredWeightsAndCapacities"]}

        def begin(record: Record) -> None:
            refuse_busy(record.body)
            self._running(record)
            want_weights(record.body, wanted)

        record = self._change(name, begin)
        self._spawn(name, functools.partial(self._rescale, name, wanted))
        return record

    def delete(self, name: str) -> None:
        """Delete an endpoint, failed or not, and stop its containers in the background.

        Raises:
            ServiceError: it does not exist or is busy.
        """

        def begin(record: Record) -> None:
            refuse_busy(record.body)
            record.body["EndpointStatus"] = "Deleting"

        self._change(name, begin)
        self._spawn(name, functools.partial(self._remove, name))

    def recover(self) -> None:
        """Start the endpoints of an earlier server, and finish its deletions."""
        for record in self._context.store.every(Kind.ENDPOINT):
            name, status = record.name, record.body["EndpointStatus"]
            expires = record.private["expires"]
            if status == "Deleting" or (expires is not None and expires <= time.time()):
                self._spawn(name, functools.partial(self._remove, name))
            elif status != "Failed":
                self._change(name, lambda record: show_restart(record.body))
                fleets = self._context.home.job("endpoint", name) / "fleets"
                shutil.rmtree(fleets, ignore_errors=True)
                self._spawn(name, functools.partial(self._bring_up, name))

    def shutdown(self) -> None:
        """Stop all containers; endpoints keep their status for `recover`."""
        with self._lock:
            self._closing = True
            fleets = [*self._starting.values(), *(active.fleet for active in self._active.values())]
            captures = [active.capture for active in self._active.values()]
            self._active = {}
        self._ttl_timers.close()
        self.asynchronous.close()
        stops = [
            threading.Thread(target=functools.partial(fleet.stop, drain=False)) for fleet in fleets
        ]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join()
        self._background.join()
        self.asynchronous.join()
        for capture in captures:
            if capture is not None:
                capture.flush()
        self.metrics.flush()

    # Background operations: each ends with an endpoint status or a FailureReason.

    def _bring_up(self, name: str) -> None:
        record = self._context.store.get(Kind.ENDPOINT, name)
        deployment = EndpointDeployment.load(record.private["deployment"])
        try:
            fleet = self._start_fleet(name, deployment)
        except DeploymentFailed as failure:
            self._fail(name, str(failure))
            return
        if not self._install(name, fleet, deployment):
            return
        self.asynchronous.resume(name, self._active[name])
        if record.private["pending"] is None:
            self._settle(name, None)
        else:  # a restart of the server interrupted an update
            self._replace(name)
        self._arm(name)

    def _replace(self, name: str) -> None:
        record = self._context.store.get(Kind.ENDPOINT, name)
        deployment = EndpointDeployment.load(record.private["pending"])
        old = self._active.get(name)
        if old is None:
            self._fail(name, NO_CONTAINERS)
            return
        old_fleet, old_capture = old.fleet, old.capture
        try:
            fleet = self._start_fleet(name, deployment)
        except DeploymentFailed as failure:
            if not self._closing:
                self._settle(name, f"The update was rolled back: {failure}")
            return
        if not self._install(name, fleet, deployment):
            return
        self._settle(name, None)
        old_fleet.stop()
        if old_capture is not None:
            old_capture.flush()

    def _rescale(self, name: str, wanted: dict[str, dict[str, Any]]) -> None:
        active = self._active.get(name)
        if active is None:
            self._fail(name, NO_CONTAINERS)
            return
        reason = None
        for variant, change in wanted.items():
            if "DesiredInstanceCount" in change:
                try:
                    active.fleet.scale(variant, change["DesiredInstanceCount"])
                except DeploymentFailed as failure:
                    reason = str(failure)
        if reason is None:
            active.fleet.reweigh(
                {
                    variant: float(change["DesiredWeight"])
                    for variant, change in wanted.items()
                    if "DesiredWeight" in change
                }
            )
        active.deployment = replace(active.deployment, variants=active.fleet.variants)
        if not self._closing:
            self._settle(name, reason)

    def _remove(self, name: str) -> None:
        with self._lock:
            active = self._active.pop(name, None)
        self._ttl_timers.cancel(name)
        self.asynchronous.forget(name)
        if active is not None:
            active.fleet.stop()
            if active.capture is not None:
                active.capture.flush()
        shutil.rmtree(self._context.home.job("endpoint", name), ignore_errors=True)
        with contextlib.suppress(Missing):
            self._context.store.delete(Kind.ENDPOINT, name)

    def _start_fleet(self, name: str, deployment: EndpointDeployment) -> Fleet:
        """Start a fleet and wait until its containers are healthy.

        Raises:
            DeploymentFailed: a container did not start; the fleet is removed.
        """

        def count(record: Record) -> None:
            record.private["generation"] += 1

        generation = self._change(name, count).private["generation"]
        fleet = Fleet(
            self._context,
            owner=f"endpoint-{name}-{generation}",
            folder=self._context.home.job("endpoint", name) / "fleets" / str(generation),
            log_group=log_groups.endpoint(name),
            variants=deployment.variants,
            choices=self._choices,
            timing=self._timing,
            on_change=functools.partial(self._refresh, name),
        )
        with self._lock:
            if self._closing:
                raise DeploymentFailed("the server stops")
            self._starting[name] = fleet
        try:
            fleet.start()
        except BaseException:
            fleet.stop(drain=False)
            raise
        finally:
            with self._lock:
                self._starting.pop(name, None)
        return fleet

    def _install(self, name: str, fleet: Fleet, deployment: EndpointDeployment) -> bool:
        """Route requests to this fleet; if the server is stopping, stop it and return False."""
        capture = None
        if deployment.capture is not None:
            capture = DataCapture(self._context.objects, name, deployment.capture, self._choices)
        with self._lock:
            if not self._closing:
                active = self._active.get(name)
                if active is None:
                    self._active[name] = ActiveEndpoint(
                        fleet, deployment, capture, datetime.now(UTC)
                    )
                else:
                    active.deployment, active.capture = deployment, capture
                    active.since, active.fleet = datetime.now(UTC), fleet
                return True
        fleet.stop(drain=False)
        return False

    def _settle(self, name: str, reason: str | None) -> None:
        """Describe the running deployment and set the status at the end of an operation."""
        with self._lock:
            active = self._active[name]
            answers = active.fleet.answers
            summaries = variant_summaries(active.fleet, active.since)

            def show(record: Record) -> None:
                describe_config(record.body, active.deployment)
                record.body["ProductionVariants"] = summaries
                record.body["EndpointStatus"] = "InService" if answers else "OutOfService"
                record.body.pop("PendingDeploymentSummary", None)
                set_reason(record.body, reason)
                record.private["deployment"] = active.deployment.dump()
                record.private["pending"] = None
                lifetime = record.private["lifetime"]
                if lifetime is not None and record.private["expires"] is None:
                    record.private["expires"] = time.time() + lifetime

            self._change(name, show)

    def _refresh(self, name: str) -> None:
        """Update the Describe response after a change of container health."""
        with self._lock:
            active = self._active.get(name)
            if active is None:
                return
            answers = active.fleet.answers
            summaries = variant_summaries(active.fleet, active.since)

            def show(record: Record) -> None:
                show_health(record.body, summaries, answers, log_groups.endpoint(name))

            with contextlib.suppress(ServiceError):
                self._change(name, show)

    def _break(self, name: str, reason: str) -> None:
        """Handle an unexpected error: keep running containers, or fail the endpoint without any."""
        if name in self._active:
            self._settle(name, reason)
        else:
            self._fail(name, reason)

    def _fail(self, name: str, reason: str) -> None:
        if self._closing:
            return

        def show(record: Record) -> None:
            record.body["EndpointStatus"] = "Failed"
            record.body.pop("PendingDeploymentSummary", None)
            record.private["pending"] = None
            set_reason(record.body, reason)

        self._change(name, show)

    def _change(self, name: str, change: Callable[[Record], None]) -> Record:
        try:
            return self._context.store.update(Kind.ENDPOINT, name, change)
        except Missing:
            raise self._context.not_hosted(Kind.ENDPOINT, name) from None

    def _running(self, record: Record) -> ActiveEndpoint:
        """The containers to update.

        Raises:
            ServiceError: there are none; a failed endpoint can only be deleted, as on AWS.
        """
        active = self._active.get(record.name)
        if active is None or record.body["EndpointStatus"] == "Failed":
            raise invalid(
                f'Cannot update endpoint "{record.arn}": its status is '
                f"{record.body['EndpointStatus']} and no container of it runs; DeleteEndpoint is "
                "the only operation that is possible now."
            )
        return active

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        self._background.spawn(
            f"endpoint {name}", work, lambda error: self._break(name, f"InternalError: {error}")
        )

    def _arm(self, name: str) -> None:
        """Start the timer of an endpoint with a time to live."""
        with contextlib.suppress(Missing):
            expires = self._context.store.get(Kind.ENDPOINT, name).private["expires"]
            if expires is not None:
                self._ttl_timers.set(name, expires - time.time())

    def _expire(self, name: str) -> None:
        try:
            status = self._context.store.get(Kind.ENDPOINT, name).body["EndpointStatus"]
        except Missing:
            return
        if status == "Deleting":
            return
        try:
            self.delete(name)
        except ServiceError:  # an update is in progress
            self._ttl_timers.set(name, _RETRY_DELETE)

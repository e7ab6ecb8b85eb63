"""InvokeEndpointAsync: a queue of requests on disk, whose responses are written to S3."""

import base64
import functools
import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local import log_groups
from local.emulator.context import Context
from local.emulator.errors import ServiceError
from local.emulator.hosting.deployment import ActiveEndpoint
from local.emulator.hosting.fleet import NoSuchVariant, Unavailable
from local.emulator.hosting.instances import Instance
from local.emulator.hosting.invocations import (
    ContainerResponse,
    InvocationLimits,
    NoAnswer,
    TooSlow,
    failed,
    invoke,
    refused,
)
from local.emulator.hosting.metrics import EndpointMetrics, Measurement
from local.emulator.hosting.variants import Variant
from local.s3_location import Location

CONCURRENCY = 4
"""Concurrent invocations per container if the configuration does not set the number."""
_WAIT = 0.2


@dataclass(frozen=True)
class AsyncRequest:
    """A queued request, stored on disk until it is processed.

    Attributes:
        identity: its id, used in file names.
        headers: headers sent to the container.
        location: `s3://…` URI of the input; None if it is `inline`.
        inline: the input in Base64; None if it is in S3.
        output: `s3://…` URI of the response.
        failure: `s3://…` URI of an error; None to store none.
        timeout: seconds to wait for the container's response.
        expires: Unix time after which it fails without an invocation.
    """

    identity: str
    headers: dict[str, str]
    location: str | None
    inline: str | None
    output: str
    failure: str | None
    timeout: float
    expires: float


class AsyncInvocations:
    """The queues of all asynchronous endpoints.

    No notifications are published to the SNS topics of a NotificationConfig.

    Args:
        context: the region's context.
        limits: payload sizes and timeouts.
        metrics: records each invocation.
        is_active: whether an endpoint is still running these containers.
    """

    def __init__(
        self,
        context: Context,
        limits: InvocationLimits,
        metrics: EndpointMetrics,
        is_active: Callable[[str, ActiveEndpoint], bool],
    ) -> None:
        self._context, self._limits = context, limits
        self._metrics, self._is_active = metrics, is_active
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._ending: list[ThreadPoolExecutor] = []
        self._closing = threading.Event()

    def submit(
        self,
        name: str,
        active: ActiveEndpoint,
        headers: dict[str, str],
        *,
        location: str | None,
        inline: bytes | None,
        timeout: float | None,
        ttl: float,
        extension: str,
        filename: str | None,
    ) -> AsyncRequest:
        """Queue a request; it survives a restart of the server.

        Raises:
            ServiceError: the endpoint is not asynchronous, or has no output path.
        """
        config = active.deployment.asynchronous
        if config is None:
            raise ServiceError(
                "ValidationError",
                f"Endpoint {name} does not support this inference type: its configuration has no "
                "AsyncInferenceConfig.",
            )
        output = config["OutputConfig"]
        if not output.get("S3OutputPath"):
            raise ServiceError(
                "ValidationError",
                f"AsyncInferenceConfig.OutputConfig of endpoint {name} has no S3OutputPath.",
            )
        identity = str(uuid.uuid4())
        base = "/".join(part for part in (output["S3OutputPath"].rstrip("/"), extension) if part)
        failure = output.get("S3FailurePath")
        request = AsyncRequest(
            identity=identity,
            headers=headers,
            location=location,
            inline=None if inline is None else base64.b64encode(inline).decode(),
            output=f"{base}/{filename or f'{identity}.out'}",
            failure=f"{failure.rstrip('/')}/{identity}-error.out" if failure else None,
            timeout=timeout or self._limits.asynchronous_timeout,
            expires=time.time() + ttl,
        )
        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{identity}.draft"
        draft.write_text(json.dumps(asdict(request)))
        draft.replace(folder / f"{identity}.json")
        self._queue(name, active, request)
        return request

    def resume(self, name: str, active: ActiveEndpoint) -> None:
        """Queue the requests that an earlier server did not process, oldest first."""
        if active.deployment.asynchronous is None:
            return
        for path in sorted(self._folder(name).glob("*.json"), key=os.path.getmtime):
            self._queue(name, active, AsyncRequest(**json.loads(path.read_text())))

    def forget(self, name: str) -> None:
        """Drop the queue of a deleted endpoint."""
        with self._lock:
            pool = self._pools.pop(name, None)
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Start no more requests; queued ones stay on disk for `resume`."""
        self._closing.set()
        with self._lock:
            pools, self._pools = self._pools, {}
            self._ending = list(pools.values())
        for pool in self._ending:
            pool.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for interrupted requests, after `close` and the end of all containers."""
        for pool in self._ending:
            pool.shutdown(wait=True)

    def _folder(self, name: str) -> Path:
        return self._context.home.job("endpoint", name) / "async"

    def _queue(self, name: str, active: ActiveEndpoint, request: AsyncRequest) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            if name not in self._pools:
                client = (active.deployment.asynchronous or {}).get("ClientConfig", {})
                each = client.get("MaxConcurrentInvocationsPerInstance", CONCURRENCY)
                count = sum(variant.count for variant in active.deployment.variants)
                self._pools[name] = ThreadPoolExecutor(each * count, f"async {name}")
            pool = self._pools[name]
        pool.submit(functools.partial(self._answer, name, active, request))

    def _answer(self, name: str, active: ActiveEndpoint, request: AsyncRequest) -> None:
        """Process a request and store its response or error; a shutdown leaves it queued."""
        try:
            answer = self._process(name, active, request)
        except ServiceError as error:
            self._put(name, request.failure, _failure(error))
        else:
            if answer is None:
                return
            self._put(name, request.output, answer)
        (self._folder(name) / f"{request.identity}.json").unlink(missing_ok=True)

    def _process(self, name: str, active: ActiveEndpoint, request: AsyncRequest) -> bytes | None:
        body = self._input(request)
        while not self._closing.is_set() and self._is_active(name, active):
            if time.time() > request.expires:
                raise ServiceError("ValidationError", "The request expired before it was answered.")
            try:
                with active.borrow() as (variant, instance):
                    answer = self._invoke(name, variant, instance, body, request)
            except (Unavailable, NoSuchVariant):
                self._closing.wait(_WAIT)
                continue
            except (TooSlow, NoAnswer) as error:
                if self._closing.is_set():
                    return None
                raise failed(self._context, name, error) from None
            if not answer.good:
                raise refused(self._context, name, answer.status, answer.body)
            return answer.body
        return None

    def _invoke(
        self, name: str, variant: Variant, instance: Instance, body: bytes, request: AsyncRequest
    ) -> ContainerResponse:
        """Invoke a container and record CloudWatch metrics."""
        sent, status = time.perf_counter(), 0
        try:
            answer = invoke(instance, body, request.headers, request.timeout)
            status = answer.status
        finally:
            measurement = Measurement(status, time.perf_counter() - sent, 0.0, variant.count)
            self._metrics.record(name, variant.name, measurement)
        return answer

    def _input(self, request: AsyncRequest) -> bytes:
        if request.location is None:
            return base64.b64decode(request.inline or "")
        source = Location.parse(request.location)
        try:
            body = self._context.objects.read(source.bucket, source.key)
        except KeyError:
            raise ServiceError(
                "ValidationError", f"There is no object at InputLocation {request.location}."
            ) from None
        if len(body) > self._limits.asynchronous:
            raise ServiceError(
                "ValidationError",
                f"{request.location} holds {len(body)} bytes, more than the "
                f"{self._limits.asynchronous} an asynchronous request may have.",
            )
        return body

    def _put(self, name: str, location: str | None, content: bytes) -> None:
        if location is None:
            return
        target = Location.parse(location)
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            try:
                self._context.objects.put(target.bucket, target.key, Path(file.name))
            except OSError as error:
                log = self._context.logs.open(log_groups.endpoint(name), "data-log")
                log.write(f"{location}: {error}")
                log.close()


def _failure(error: ServiceError) -> bytes:
    members: dict[str, Any] = {"ErrorCode": error.code, "Message": error.message, **error.extra}
    return json.dumps(members).encode()

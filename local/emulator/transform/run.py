"""A batch transform: sends the input objects to containers and writes the responses to S3."""

import json
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import urllib3

from local.emulator.context import Context
from local.emulator.hosting.fleet import Fleet, Unavailable
from local.emulator.hosting.instances import HostingTiming, write_note
from local.emulator.hosting.invocations import MB, ContainerResponse, NoAnswer, TooSlow, invoke
from local.emulator.ports import LogStream
from local.emulator.transform.inputs import BadInput, Item, list_items, requests_of
from local.s3_location import Location

INVOCATION_SECONDS = 600
"""Default timeout of a request, if ModelClientConfig does not set it."""
RETRIES = 3
"""Default number of retries of a failed request, if ModelClientConfig does not set it."""
DEFAULTS: dict[str, Any] = {
    "MaxConcurrentTransforms": 1,
    "BatchStrategy": "MULTI_RECORD",
    "MaxPayloadInMB": 6,
}
"""Defaults for parameters that neither the request nor the container sets."""
STRATEGIES = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
_ERROR_LENGTH = 300
"""Most characters of a container's error in a message."""


class TransformFailed(Exception):
    """The transform of an object failed; the message is the job's FailureReason."""


class Stopped(Exception):
    """The job was stopped, or the server is stopping."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of requests: the job's, else the container's, else the defaults."""

    concurrent: int
    single: bool
    limit_mb: int

    @classmethod
    def agree(cls, request: dict[str, Any], offered: dict[str, Any]) -> "Parameters":
        """Merge the request's parameters and the container's /execution-parameters."""
        requested = {name: request[name] for name in DEFAULTS if name in request}
        if "BatchStrategy" in requested:
            requested["BatchStrategy"] = STRATEGIES[requested["BatchStrategy"]]
        if requested.get("MaxConcurrentTransforms") == 0:  # 0: the container decides
            del requested["MaxConcurrentTransforms"]
        known = {name: offered[name] for name in DEFAULTS if name in offered}
        whole = DEFAULTS | known | requested
        return cls(
            max(1, int(whole["MaxConcurrentTransforms"])),
            whole["BatchStrategy"] == "SINGLE_RECORD",
            int(whole["MaxPayloadInMB"]),
        )

    def __str__(self) -> str:
        """The parameters as in AWS's log."""
        strategy = "SINGLE_RECORD" if self.single else "MULTI_RECORD"
        return (
            f"MaxConcurrentTransforms={self.concurrent}, MaxPayloadInMB={self.limit_mb}, "
            f"BatchStrategy={strategy}"
        )


class TransformRun:
    """Runs a job's transform on a started fleet.

    Args:
        context: the region's context.
        request: the CreateTransformJob request.
        fleet: the containers.
        stopping: set to send no more requests.
        folder: an empty folder for temporary files.
        log: the job's data log.
        timing: timeouts and intervals.
    """

    def __init__(
        self,
        context: Context,
        request: dict[str, Any],
        fleet: Fleet,
        *,
        stopping: threading.Event,
        folder: Path,
        log: LogStream,
        timing: HostingTiming,
    ) -> None:
        self._context, self._request, self._fleet = context, request, fleet
        self._stopping, self._folder, self._log, self._timing = stopping, folder, log, timing
        client = request.get("ModelClientConfig", {})
        self._timeout = client.get("InvocationsTimeoutInSeconds", INVOCATION_SECONDS)
        self._retries = client.get("InvocationsMaxRetries", RETRIES)
        output = request["TransformOutput"]
        self._output = Location.parse(output["S3OutputPath"])
        self._by_line = output.get("AssembleWith", "None") == "Line"
        source = request["TransformInput"]
        self._unzip = source.get("CompressionType", "None") == "Gzip"
        self._lines = source.get("SplitType", "None") == "Line"
        headers = {"Content-Type": source.get("ContentType"), "Accept": output.get("Accept")}
        self._headers = {name: value for name, value in headers.items() if value}

    def work(self) -> int:
        """Transform every object; return the number of objects.

        An object that fails has no output; the others are still transformed.

        Raises:
            TransformFailed: the input is invalid, or an object failed.
            Stopped: `stopping` was set.
        """
        try:
            source = self._request["TransformInput"]["DataSource"]["S3DataSource"]
            items = list_items(self._context.objects, source)
        except BadInput as error:
            raise TransformFailed(f"ClientError: TransformInput: {error}.") from None
        parameters = Parameters.agree(self._request, self._offered())
        self._note(str(parameters))
        workers = parameters.concurrent * self._request["TransformResources"]["InstanceCount"]
        with ThreadPoolExecutor(workers, thread_name_prefix="transform") as pool:
            try:
                failed = list(self._pipeline(items, parameters, pool, workers))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if failed:
            item, failure = failed[0]
            count = f" {len(failed)} of {len(items)} objects failed." if len(items) > 1 else ""
            raise TransformFailed(
                f"{failure.kind}: {item}: {failure.text}.{count} See job logs for more information."
            )
        return len(items)

    def _pipeline(
        self, items: list[Item], parameters: Parameters, pool: ThreadPoolExecutor, workers: int
    ) -> Iterator[tuple[Item, "_Failure"]]:
        """Keep all workers busy across objects; yield the failed objects in order."""
        window: deque[tuple[_Output, Future[bytes] | None]] = deque()
        for item in items:
            output = _Output(item, self._by_line)
            for body in self._bodies(item, output, parameters):
                window.append((output, pool.submit(self._ask, body)))
                while len(window) > 2 * workers:
                    yield from self._take(window)
            window.append((output, None))
        while window:
            yield from self._take(window)

    def _bodies(self, item: Item, output: "_Output", parameters: Parameters) -> Iterator[bytes]:
        """Yield an object's request bodies until one of the requests fails."""
        try:
            with item.open(self._context.objects, self._folder, unzip=self._unzip) as file:
                for body in requests_of(
                    file,
                    lines=self._lines,
                    single=parameters.single,
                    limit=parameters.limit_mb * MB,
                ):
                    self._check_stop()
                    if output.failure is not None:
                        return
                    yield body
        except BadInput as error:
            output.fail(_Failure("ClientError", str(error)))

    def _take(
        self, window: "deque[tuple[_Output, Future[bytes] | None]]"
    ) -> Iterator[tuple[Item, "_Failure"]]:
        """Wait for the oldest request; at an object's end, write its output to S3."""
        output, future = window.popleft()
        if future is not None:
            try:
                output.add(future.result(), self._folder)
            except _Failure as failure:
                output.fail(failure)
            return
        if output.failure is None:
            self._put(output)
        output.close()
        if output.failure is not None:
            self._note(f"{output.item}: {output.failure.kind}: {output.failure.text}")
            yield output.item, output.failure

    def _put(self, output: "_Output") -> None:
        place = self._output / f"{output.item.name}.out"
        try:
            self._context.objects.put(place.bucket, place.key, output.path(self._folder))
        except OSError as error:
            output.fail(_Failure("ClientError", f"its output {place} was not written: {error}"))

    def _ask(self, body: bytes) -> bytes:
        """Send a request, with retries unless the container returns a 4xx status."""
        failure = _Failure("AlgorithmError", "no container answers")
        pause = self._timing.backoff
        for attempt in range(self._retries + 1):
            if attempt:
                self._stopping.wait(pause)
                pause = min(pause * 2, self._timing.max_backoff)
            self._check_stop()
            try:
                with self._fleet.borrow() as (_, instance):
                    answer = invoke(instance, body, self._headers, self._timeout)
            except (Unavailable, NoAnswer):
                failure = _Failure("AlgorithmError", "Unable to get response from algorithm")
            except TooSlow:
                failure = _Failure("AlgorithmError", f"no answer within {self._timeout:g} seconds")
            else:
                if answer.good:
                    return answer.body
                failure = _refusal(answer)
                if failure.kind == "ClientError":
                    break
        self._check_stop()
        raise failure

    def _offered(self) -> dict[str, Any]:
        """The container's /execution-parameters; empty if it has none."""
        try:
            with self._fleet.borrow() as (_, instance):
                answer = instance.pool.request(
                    "GET", "/execution-parameters", timeout=self._timing.ping, retries=False
                )
            offered = json.loads(answer.data) if answer.status == 200 else {}
        except (Unavailable, urllib3.exceptions.HTTPError, ValueError):
            return {}
        return offered if isinstance(offered, dict) else {}

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def _note(self, text: str) -> None:
        write_note(self._log, text)


class _Failure(Exception):
    """The failure of an object: AWS's kind of error, and a text without a period."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind, self.text = kind, text.rstrip(".")


class _Output:
    """The responses to an object's requests, appended in order to a temporary file."""

    def __init__(self, item: Item, by_line: bool) -> None:
        self.item = item
        self.failure: _Failure | None = None
        self._by_line = by_line
        self._file: IO[bytes] | None = None

    def path(self, folder: Path) -> Path:
        """The file with the responses so far; created by the first call."""
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(dir=folder)  # noqa: SIM115 - until close()
        self._file.flush()
        return Path(self._file.name)

    def add(self, answer: bytes, folder: Path) -> None:
        """Append a response."""
        if self.failure is not None:
            return
        self.path(folder)
        assert self._file is not None  # noqa: S101 - path() opened it
        self._file.write(answer)
        if self._by_line and not answer.endswith(b"\n"):
            self._file.write(b"\n")

    def fail(self, failure: _Failure) -> None:
        """Mark the object as failed; only the first failure is kept."""
        self.failure = self.failure or failure

    def close(self) -> None:
        """Close and remove the file."""
        if self._file is not None:
            self._file.close()


def _refusal(answer: ContainerResponse) -> _Failure:
    text = answer.body[:_ERROR_LENGTH].decode(errors="replace").strip()
    kind = "ClientError" if 400 <= answer.status < 500 else "AlgorithmError"
    return _Failure(kind, f"the container answered {answer.status}: {text}")

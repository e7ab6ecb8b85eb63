"""The runtime's REST API: InvokeEndpoint, …WithResponseStream and …Async."""

import contextlib
import functools
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import urllib3
from werkzeug.wrappers import Request, Response

from local import log_groups
from local.emulator.context import Context
from local.emulator.credentials import ACCOUNT
from local.emulator.errors import ServiceError
from local.emulator.hosting.data_capture import DataCapture
from local.emulator.hosting.deployment import ActiveEndpoint
from local.emulator.hosting.endpoints import Endpoints
from local.emulator.hosting.event_stream import CONTENT_TYPE, payload_part, stream_error
from local.emulator.hosting.fleet import NoSuchVariant, Unavailable
from local.emulator.hosting.instances import Instance
from local.emulator.hosting.invocations import (
    ATTRIBUTES,
    ContainerResponse,
    InvocationLimits,
    NoAnswer,
    TooSlow,
    chunks,
    failed,
    invoke,
    open_stream,
    refused,
)
from local.emulator.hosting.metrics import Measurement
from local.emulator.hosting.runtime_headers import PREFIX, check_headers, number
from local.emulator.hosting.target_models import (
    NO_MEMORY,
    ModelMissing,
    ModelNotReady,
    ModelRefused,
    TargetModels,
)
from local.emulator.hosting.variants import Variant
from local.emulator.store import Kind, Missing
from local.s3_location import BadLocation, Location

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_PATH = re.compile(
    r"/endpoints/([^/]+)/(invocations|invocations-response-stream|async-invocations)"
)
_PASSED = ("Inference-Id", "Session-Id", "Target-Variant", "Target-Model")
_RETURNED = ("New-Session-Id", "Closed-Session-Id")
_DRAIN = 1 << 20
_ASYNC_TTL = 21600

Answer = TypeVar("Answer", ContainerResponse, urllib3.BaseHTTPResponse)


class RuntimeApp:
    """The WSGI application for `runtime.sagemaker`.

    Args:
        context: the region's context.
        endpoints: the region's endpoints.
        limits: payload sizes and timeouts, for tests.
    """

    def __init__(
        self, context: Context, endpoints: Endpoints, limits: InvocationLimits | None = None
    ) -> None:
        self._context, self._endpoints = context, endpoints
        self._limits = limits or InvocationLimits()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Handle a request."""
        request = Request(environ)
        began = time.perf_counter()
        identity = str(uuid.uuid4())
        try:
            response = self._answer(request, began, identity)
        except ServiceError as error:
            response = _error(error)
        response.headers["x-amzn-RequestId"] = identity
        return response(environ, start_response)

    def _answer(self, request: Request, began: float, identity: str) -> Response:
        found = _PATH.fullmatch(request.path)
        if found is None or request.method != "POST":
            raise ServiceError(
                "UnknownOperationException",
                f"{request.method} {request.path} is no operation of the SageMaker runtime",
                404,
            )
        name, operation = found.groups()
        try:
            check_headers(operation, name, request.headers)
        except ServiceError:
            _drain(request)
            raise
        active = self._active(name, request)
        if operation == "async-invocations":
            return self._asynchronous(name, active, request)
        if active.deployment.asynchronous is not None:
            _drain(request)
            raise ServiceError(
                "ValidationError",
                f"Endpoint {name} does not support this inference type: it is asynchronous; use "
                "InvokeEndpointAsync.",
            )
        with ExitStack() as stack:
            target = request.headers.get(PREFIX + "Target-Variant")
            body = self._body(request, active, target)
            variant, instance = self._borrow(stack, name, active, target)
            model = request.headers.get(PREFIX + "Target-Model")
            if not variant.multi_model and model is not None:
                raise ServiceError(
                    "ValidationError",
                    f"Endpoint {name} is not a multi-model endpoint and does not support target "
                    "model header.",
                )
            # InvokeEndpointWithResponseStream has no TargetModel parameter.
            if variant.multi_model and (model is None or operation != "invocations"):
                raise ServiceError(
                    "ValidationError", f"Request {identity} is missing a target model header."
                )
            headers = _headers(request, streamed=operation != "invocations")
            call = _Call(name, variant, instance, body, headers, began, model)
            if operation == "invocations":
                return self._invoke(call, active.capture)
            return self._stream(call, stack)

    def _invoke(self, call: "_Call", capture: DataCapture | None) -> Response:
        answer = self._send(call, invoke) if call.model is None else self._send_to_model(call)
        if not answer.good:
            raise refused(self._context, call.endpoint, answer.status, answer.body)
        if capture is not None and capture.wanted():
            _record(capture, call, answer)
        response = Response([answer.body])
        response.headers.clear()
        response.headers["Content-Length"] = str(len(answer.body))
        if "Content-Type" in answer.headers:
            response.headers["Content-Type"] = answer.headers["Content-Type"]
        _describe(response, call.variant, answer.headers)
        return response

    def _stream(self, call: "_Call", stack: ExitStack) -> Response:
        answer = self._send(call, open_stream)
        try:
            if not 200 <= answer.status < 300:
                raise refused(self._context, call.endpoint, answer.status, b"".join(chunks(answer)))
        except (TooSlow, NoAnswer) as error:
            raise failed(self._context, call.endpoint, error) from None
        response = Response(_frames(answer), content_type=CONTENT_TYPE)
        response.headers[PREFIX + "Content-Type"] = answer.headers.get("Content-Type", "")
        _describe(response, call.variant, answer.headers)
        stack.callback(answer.release_conn)
        response.call_on_close(stack.pop_all().close)
        return response

    def _send(self, call: "_Call", send: Callable[..., Answer]) -> Answer:
        """Call the container with `invoke` or `open_stream`, and record CloudWatch metrics."""
        sent = time.perf_counter()
        try:
            answer = send(call.instance, call.body, call.headers, self._limits.timeout)
        except (TooSlow, NoAnswer) as error:
            self._measure(call, 0, sent)
            raise failed(self._context, call.endpoint, error) from None
        self._measure(call, answer.status, sent)
        return answer

    def _send_to_model(self, call: "_Call") -> ContainerResponse:
        """Invoke a model of a multi-model container, which loads it if necessary."""
        models, target = call.instance.models, call.model
        assert models is not None  # noqa: S101  # the variant is multi-model
        assert target is not None  # noqa: S101
        known = True
        while True:
            path = self._ready(call, models, target)
            answer = self._send(call, functools.partial(invoke, path=path))
            if answer.status == 404 and known:  # it was restarted, or unloaded the model itself
                models.forget(target)
                known = False
            elif answer.status != NO_MEMORY or not models.make_room(target):
                return answer

    def _ready(self, call: "_Call", models: TargetModels, target: str) -> str:
        """Load the model if necessary, and return its path for invocations."""
        try:
            return models.path(target, self._limits.timeout)
        except ModelMissing as error:
            raise ServiceError("ValidationError", str(error)) from None
        except ModelNotReady:
            raise ServiceError(
                "ModelNotReadyException",
                f"Model {target} of endpoint {call.endpoint} is still being downloaded or loaded. "
                "Wait and try your request again.",
                429,
            ) from None
        except ModelRefused as error:
            if not error.status:
                raise failed(self._context, call.endpoint, NoAnswer()) from None
            raise refused(self._context, call.endpoint, error.status, error.body) from None

    def _measure(self, call: "_Call", status: int, sent: float) -> None:
        now, count = time.perf_counter(), call.variant.count
        measurement = Measurement(status, now - sent, sent - call.began, count)
        self._endpoints.metrics.record(call.endpoint, call.variant.name, measurement)

    def _asynchronous(self, name: str, active: ActiveEndpoint, request: Request) -> Response:
        body = _read(request, self._limits.inline)
        location = request.headers.get(PREFIX + "InputLocation")
        if (location is None) == (not body):
            raise ServiceError(
                "ValidationError", "Give either InputLocation or Body, one of the two."
            )
        if location is not None:
            try:
                Location.parse(location)
            except BadLocation:
                raise ServiceError(
                    "ValidationError", f"InputLocation is {location}; expected s3://bucket/key"
                ) from None
        headers = _headers(request, streamed=True)
        headers["Content-Type"] = request.headers.get(
            PREFIX + "Content-Type", "application/octet-stream"
        )
        queued = self._endpoints.asynchronous.submit(
            name,
            active,
            headers,
            location=location,
            inline=body or None,
            timeout=number(request.headers, "InvocationTimeoutSeconds"),
            ttl=number(request.headers, "RequestTTLSeconds") or _ASYNC_TTL,
            extension=request.headers.get(PREFIX + "S3OutputPathExtension", "").strip("/"),
            filename=request.headers.get(PREFIX + "Filename"),
        )
        identity = request.headers.get(PREFIX + "Inference-Id", queued.identity)
        response = Response(
            json.dumps({"InferenceId": identity}), 202, content_type="application/json"
        )
        response.headers[PREFIX + "OutputLocation"] = queued.output
        if queued.failure is not None:
            response.headers[PREFIX + "FailureLocation"] = queued.failure
        return response

    def _active(self, name: str, request: Request) -> ActiveEndpoint:
        active = self._endpoints.active(name)
        if active is not None:
            return active
        _drain(request)
        try:
            status = self._context.store.get(Kind.ENDPOINT, name).body["EndpointStatus"]
        except Missing:
            raise ServiceError(
                "ValidationError", f"Endpoint {name} of account {ACCOUNT} not found."
            ) from None
        raise ServiceError(
            "ValidationError",
            f"Endpoint {name} of account {ACCOUNT} is not in service: its status is {status}.",
        )

    def _body(self, request: Request, active: ActiveEndpoint, target: str | None) -> bytes:
        variants = active.fleet.variants
        named = [one for one in variants if one.name == target] or variants
        serverless = any(one.serverless for one in named)
        return _read(request, self._limits.serverless if serverless else self._limits.payload)

    def _borrow(
        self, stack: ExitStack, name: str, active: ActiveEndpoint, target: str | None
    ) -> tuple[Variant, Instance]:
        try:
            return stack.enter_context(active.borrow(target))
        except NoSuchVariant:
            raise ServiceError(
                "ValidationError",
                f"Variant {target} of endpoint {name} of account {ACCOUNT} not found.",
            ) from None
        except Unavailable:
            targeted = [one for one in active.fleet.variants if target in (None, one.name)]
            why = (
                f"No container of endpoint {name} answers now; each is being started again. "
                f"The log group {log_groups.endpoint(name)} has the reason."
            )
            if not any(one.count for one in targeted):
                why = (
                    f"No container of endpoint {name} runs: DesiredInstanceCount is 0 for "
                    f"{', '.join(one.name for one in targeted)}; expected 1 or more "
                    "(UpdateEndpointWeightsAndCapacities)."
                )
            raise ServiceError("ServiceUnavailable", why, 503) from None


@dataclass(frozen=True)
class _Call:
    """A request to a container.

    Attributes:
        began: when it arrived, by `time.perf_counter`.
        model: its TargetModel; None for a single-model container.
    """

    endpoint: str
    variant: Variant
    instance: Instance
    body: bytes
    headers: dict[str, str]
    began: float
    model: str | None


def _headers(request: Request, *, streamed: bool) -> dict[str, str]:
    """The request's headers that are passed to the container."""
    pairs = {
        "Content-Type": request.headers.get("Content-Type"),
        "Accept": request.headers.get(PREFIX + "Accept" if streamed else "Accept"),
        ATTRIBUTES: request.headers.get(ATTRIBUTES),
        **{PREFIX + name: request.headers.get(PREFIX + name) for name in _PASSED},
    }
    return {name: value for name, value in pairs.items() if value is not None}


def _read(request: Request, limit: int) -> bytes:
    """Read the request's body.

    Raises:
        ServiceError: it is larger than `limit` bytes (413, as on AWS) or incomplete.
    """
    length = request.content_length
    if length is None:  # it is chunked, or there is no body
        body = b"".join(_pieces(request, limit))
    elif length <= limit:
        body = request.environ["wsgi.input"].read(length)  # in one piece, not copied
        if len(body) < length:
            raise ServiceError(
                "ValidationError", f"The body ended after {len(body)} of {length} bytes."
            )
    else:
        body = b""
    if max(length or 0, len(body)) > limit:
        _drain(request)
        raise ServiceError("413", f"HTTP content length exceeded {limit} bytes.", 413)
    return body


def _pieces(request: Request, limit: int) -> Iterator[bytes]:
    """Yield the pieces of a body of unknown length, until they exceed `limit` bytes."""
    total = 0
    while total <= limit and (piece := request.stream.read(_DRAIN)):
        total += len(piece)
        yield piece


def _drain(request: Request) -> None:
    """Read a rejected request's body: clients only read the response after sending it."""
    with contextlib.suppress(OSError):
        while request.stream.read(_DRAIN):
            pass


def _describe(response: Response, variant: Variant, headers: Mapping[str, str]) -> None:
    response.headers["x-Amzn-Invoked-Production-Variant"] = variant.name
    for name in (ATTRIBUTES, *(PREFIX + one for one in _RETURNED)):
        if name in headers:
            response.headers[name] = headers[name]


def _record(capture: DataCapture, call: _Call, answer: ContainerResponse) -> None:
    capture.record(
        call.variant.name,
        (call.body, call.headers.get("Content-Type", "application/octet-stream")),
        (answer.body, answer.headers.get("Content-Type", "application/octet-stream")),
        inference_id=call.headers.get(PREFIX + "Inference-Id"),
        attributes=call.headers.get(ATTRIBUTES),
    )


def _frames(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        for chunk in chunks(answer):
            yield payload_part(chunk)
    except TooSlow:
        yield stream_error(
            "ModelStreamError",
            {
                "Message": "The model's container did not send the next part in time.",
                "ErrorCode": "ModelInvocationTimeExceeded",
            },
        )
    except NoAnswer:
        yield stream_error(
            "ModelStreamError",
            {
                "Message": "The model's container broke off its answer.",
                "ErrorCode": "StreamBroken",
            },
        )


def _error(error: ServiceError) -> Response:
    """AWS's REST-JSON error response; a numeric code, such as 413, has no error type."""
    if error.code.isdecimal():
        body: dict[str, object] = {"message": error.message}
    else:
        body = {"Message": error.message, **error.extra}
    response = Response(json.dumps(body), error.status, content_type="application/json")
    if not error.code.isdecimal():
        response.headers["x-amzn-ErrorType"] = error.code
    return response

"""A request to a serving container over a kept-alive connection, and its errors."""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import urllib3
from urllib3 import exceptions

from local import log_groups
from local.emulator.context import Context
from local.emulator.credentials import ACCOUNT
from local.emulator.errors import ServiceError
from local.emulator.hosting.instances import Instance

MB = 1024**2
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_MESSAGE = 64 * 1024
"""Most bytes of a container's error that are returned to the client."""
_CHUNK = MB


@dataclass(frozen=True)
class InvocationLimits:
    """AWS's limits for invocations.

    Attributes:
        timeout: seconds for the complete response, or between two parts of a stream.
        payload: most bytes of a request to a real-time endpoint.
        serverless: most bytes of a request to a serverless variant.
        asynchronous: most bytes of an asynchronous request in S3.
        inline: most bytes of a request in the body of InvokeEndpointAsync.
        asynchronous_timeout: default timeout of an asynchronous invocation, in seconds.
    """

    timeout: float = 60
    payload: int = 25 * MB
    serverless: int = 4 * MB
    asynchronous: int = 1024 * MB
    inline: int = 128_000
    asynchronous_timeout: float = 900


class NoAnswer(Exception):
    """The container closed the connection or is unreachable."""


class TooSlow(Exception):
    """The container did not respond in time."""


@dataclass(frozen=True)
class ContainerResponse:
    """A container's response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def invoke(
    instance: Instance,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
    path: str = "/invocations",
) -> ContainerResponse:
    """POST a body to a container's `path` and read the whole response.

    Raises:
        TooSlow, NoAnswer: there is no complete response.
    """
    deadline = time.monotonic() + timeout
    response = open_stream(instance, body, headers, timeout, path)
    try:
        return ContainerResponse(
            response.status, response.headers, b"".join(chunks(response, deadline))
        )
    finally:
        response.release_conn()


def open_stream(
    instance: Instance,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
    path: str = "/invocations",
) -> urllib3.BaseHTTPResponse:
    """POST a body to a container's `path` without reading the response's body.

    If the container has just closed a kept-alive connection, retry once with a new one.

    Raises:
        TooSlow, NoAnswer: there is no response.
    """
    try:
        return _post(instance, path, body, headers, timeout)
    except exceptions.ProtocolError:
        if not instance.running:
            raise NoAnswer from None
    except exceptions.NewConnectionError:  # a subclass of TimeoutError, but not a timeout
        raise NoAnswer from None
    except exceptions.TimeoutError:
        raise TooSlow from None
    except exceptions.HTTPError:
        raise NoAnswer from None
    try:
        return _post(instance, path, body, headers, timeout)
    except exceptions.NewConnectionError:
        raise NoAnswer from None
    except exceptions.TimeoutError:
        raise TooSlow from None
    except exceptions.HTTPError:
        raise NoAnswer from None


def chunks(response: urllib3.BaseHTTPResponse, deadline: float | None = None) -> Iterator[bytes]:
    """Yield the parts of a response's body as they arrive.

    Args:
        response: the result of `open_stream`.
        deadline: time limit for the whole body, on the monotonic clock.

    Raises:
        TooSlow, NoAnswer: the body is incomplete; the connection is closed.
    """
    try:
        for part in _parts(response):
            if deadline is not None and time.monotonic() > deadline:
                raise TooSlow
            yield part
    except exceptions.TimeoutError:
        response.close()
        raise TooSlow from None
    except exceptions.HTTPError:
        response.close()
        raise NoAnswer from None
    except (TooSlow, GeneratorExit):
        response.close()
        raise


def model_error(context: Context, endpoint: str, status: int, message: str) -> ServiceError:
    """AWS's `ModelError`: HTTP 424 with the container's error.

    Args:
        context: the region's context.
        endpoint: the endpoint's name.
        status: the container's HTTP status; 0 if it did not respond.
        message: the response's body, or a description of the failure.
    """
    side = "client" if 400 <= status < 500 else "server"
    group = log_groups.endpoint(endpoint)
    return ServiceError(
        "ModelError",
        f'Received {side} error ({status}) from primary with message "{message}". '
        f"See the log group {group} in account {ACCOUNT} for more information.",
        424,
        {
            "OriginalStatusCode": status,
            "OriginalMessage": message,
            "LogStreamArn": f"arn:aws:logs:{context.region}:{ACCOUNT}:log-group:{group}",
        },
    )


def refused(context: Context, endpoint: str, status: int, body: bytes) -> ServiceError:
    """The `ModelError` for a response with an error status."""
    return model_error(context, endpoint, status, body[:_MESSAGE].decode(errors="replace"))


def failed(context: Context, endpoint: str, error: Exception) -> ServiceError:
    """The `ModelError` for a container that did not respond."""
    if isinstance(error, TooSlow):
        text = (
            "Your invocation timed out while waiting for a response from container primary. "
            "Review the latency metrics for each container in Amazon CloudWatch, resolve the "
            "issue, and try again."
        )
    else:
        text = (
            "Amazon SageMaker could not get a response from the primary endpoint. Please check "
            "the model server logs."
        )
    return model_error(context, endpoint, 0, text)


def _post(
    instance: Instance, path: str, body: bytes, headers: Mapping[str, str], timeout: float
) -> urllib3.BaseHTTPResponse:
    response = instance.pool.urlopen(
        "POST",
        path,
        body=body,
        headers=headers,
        timeout=timeout,
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
    _acknowledge(response)
    return response


def _acknowledge(response: urllib3.BaseHTTPResponse) -> None:
    """Send the TCP acknowledgement at once, if the platform can.

    A server that sends headers and body separately, as Python's `http.server` does, waits for the
    acknowledgement of the headers, which Linux otherwise delays by 40 ms.
    """
    sock = getattr(getattr(response, "connection", None), "sock", None)
    if sock is not None and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _parts(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    if response.chunked:
        yield from response.read_chunked(_CHUNK, decode_content=False)
    else:
        while part := response.read1(_CHUNK, decode_content=False):
            yield part

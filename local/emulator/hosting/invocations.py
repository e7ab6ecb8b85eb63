"""One request to a serving container, over a kept connection, and what may become of it."""

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
"""Bytes of a container's error that reach the client."""
_CHUNK = MB


@dataclass(frozen=True)
class InvocationLimits:
    """What AWS allows an invocation; seconds and bytes.

    Attributes:
        timeout: until the container's answer must be complete, or a stream's next part come.
        payload: a request to a real-time endpoint.
        serverless: a request to a serverless variant.
        asynchronous: a request through S3.
        inline: a request in the body of InvokeEndpointAsync.
        asynchronous_timeout: an asynchronous invocation that names no timeout.
    """

    timeout: float = 60
    payload: int = 25 * MB
    serverless: int = 4 * MB
    asynchronous: int = 1024 * MB
    inline: int = 128_000
    asynchronous_timeout: float = 900


class NoAnswer(Exception):
    """The container broke off or cannot be reached."""


class TooSlow(Exception):
    """The container did not answer in time."""


@dataclass(frozen=True)
class ContainerResponse:
    """What a container answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300


def invoke(
    instance: Instance,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
    path: str = "/invocations",
) -> ContainerResponse:
    """POST a body to a container's `path` and read the whole answer.

    Raises:
        TooSlow, NoAnswer: there is none.
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
    """POST a body to a container's `path`; its answer's body is still to be read.

    A kept connection that the container closed just then is replaced by a new one, once.

    Raises:
        TooSlow, NoAnswer: there is none.
    """
    try:
        return _post(instance, path, body, headers, timeout)
    except exceptions.ProtocolError:
        if not instance.running:
            raise NoAnswer from None
    except exceptions.NewConnectionError:  # one of urllib3's TimeoutErrors, which it is not
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
    """An answer's body, each part as soon as it is there.

    Args:
        response: what `open_stream` gave.
        deadline: when all must be there, on the monotonic clock.

    Raises:
        TooSlow, NoAnswer: it broke off; the connection is not used again.
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
    """AWS's `ModelError`: HTTP 424 around the container's error.

    Args:
        context: the region.
        endpoint: the endpoint's name.
        status: the container's; 0 for none.
        message: its body, or what is wrong.
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
    """The `ModelError` of a container that answered with an error status."""
    return model_error(context, endpoint, status, body[:_MESSAGE].decode(errors="replace"))


def failed(context: Context, endpoint: str, error: Exception) -> ServiceError:
    """The `ModelError` of a container that did not answer."""
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
    """Acknowledge what came at once, where the system can.

    A server that sends headers and body apart, as Python's own does, waits for that before it sends
    the second, and the system would let it wait 40 milliseconds.
    """
    kept = getattr(getattr(response, "connection", None), "sock", None)
    if kept is not None and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _parts(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    if response.chunked:
        yield from response.read_chunked(_CHUNK, decode_content=False)
    else:
        while part := response.read1(_CHUNK, decode_content=False):
            yield part

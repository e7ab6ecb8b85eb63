"""The WSGI application of the service `sagemaker`: AWS JSON 1.1, dispatched by `X-Amz-Target`."""

import json
import logging
import sqlite3
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response

from local.emulator.api.operations import OPERATIONS
from local.emulator.api.serializer import serialize
from local.emulator.errors import ServiceError
from local.emulator.executors import ExecutorError, ImageMissing
from local.emulator.services import Services
from local.emulator.shapes.parser import parse
from local.emulator.shapes.service_model import operation_model

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "SageMaker."
"""Prefix of the operation's name in the header `X-Amz-Target`."""

CONTENT_TYPE = "application/x-amz-json-1.1"

log = logging.getLogger(__name__)


class SageMakerApp:
    """A WSGI application for SageMaker's control plane.

    Responses and errors have SageMaker's shapes. For an unexpected error the caller gets an
    `InternalFailure`, and the server's log the traceback.
    """

    def __init__(self, services: Services) -> None:
        self.services = services

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Handle a request."""
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        target = request.headers.get("X-Amz-Target", "")
        try:
            body = self._answer(target, request)
        except ServiceError as error:
            return _error(error)
        except (OSError, sqlite3.OperationalError) as failure:
            log.exception("%s failed", target)
            # Clients do not retry a 507, and a full disk stays full.
            message = f"Nothing was saved in {self.services.home.path}: {failure}."
            return _error(ServiceError("InternalFailure", message, 507))
        except Exception:
            log.exception("%s failed", target or "a request without X-Amz-Target")
            return _error(
                ServiceError(
                    "InternalFailure",
                    f"{target.removeprefix(PREFIX) or 'The request'} hit a bug in the local "
                    "SageMaker; the server's log has the traceback.",
                    500,
                )
            )
        return _response(200, body)

    def _answer(self, target: str, http: Request) -> bytes:
        body, name = http.get_data(), target.removeprefix(PREFIX)
        if not target.startswith(PREFIX):
            # SageMaker's Feature Store, metrics and edge APIs are signed for the same service.
            found = f"X-Amz-Target is {target!r}" if target else f"{http.method} {http.path}"
            raise ServiceError(
                "UnknownOperationException",
                f"{found}: the local SageMaker does not support this; expected a header "
                "X-Amz-Target with SageMaker.<Operation>, or a path /endpoints/<name>/invocations.",
            )
        model = operation_model(name)
        operation = OPERATIONS.get(name)
        if operation is None:
            raise ServiceError(
                "UnknownOperationException",
                f"The local SageMaker does not support {name}; it supports "
                f"{', '.join(sorted(OPERATIONS))}.",
            )
        request = parse(model.input_shape, body)
        try:
            response = operation(self.services, request)
        except ImageMissing as error:
            raise ServiceError("ValidationException", str(error)) from error
        except ExecutorError as error:
            raise ServiceError("ServiceUnavailable", str(error), 503) from error
        return serialize(model.output_shape, response)


def _response(status: int, body: bytes) -> Response:
    response = Response(body, status, content_type=CONTENT_TYPE)
    response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
    return response


def _error(error: ServiceError) -> Response:
    body: dict[str, Any] = {"__type": error.code, "message": error.message, **error.extra}
    response = _response(error.status, json.dumps(body).encode())
    response.headers["x-amzn-ErrorType"] = error.code
    return response

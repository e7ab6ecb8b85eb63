"""S3, ECR, IAM, STS, CloudWatch Logs and CloudWatch, at one address."""

import logging
import sqlite3
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from local.emulator.aws import answers, moto_services, simulation
from local.emulator.aws.cloudwatch import CloudWatch
from local.emulator.aws.logs.app import LogsApp
from local.emulator.aws.logs.metrics.publisher import LogMetrics
from local.emulator.aws.logs.store import LogStore
from local.emulator.aws.moto_services import MotoServices
from local.emulator.aws.requests import Environ, Request
from local.emulator.aws.s3.app import S3App
from local.emulator.aws.s3.store import ObjectStore
from local.emulator.aws.signature.claims import claim
from local.emulator.aws.signature.keys import Key
from local.emulator.aws.signature.scope import Scope, scope
from local.emulator.errors import ServiceError
from local.emulator.home import Home

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

logger = logging.getLogger(__name__)

SERVICES = ("s3", "logs", *moto_services.SERVICES)
"""The services' signing names."""
OPERATION = "berth.operation"
"""The key of the operation's name in the WSGI environment, for the server's log."""


class AWSServices:
    """A WSGI application for the services besides SageMaker, and direct access for jobs.

    Attributes:
        objects: S3's objects.
        logs: CloudWatch's logs and metrics.
    """

    def __init__(self, home: Home, region: str) -> None:
        self._moto = MotoServices(home, region)
        self.objects = ObjectStore(home.objects)
        self._s3 = S3App(self.objects)
        log_store = LogStore(home.logs)
        put = self._moto.put_metric_data
        self._metrics = LogMetrics(log_store, put)
        self._logs = LogsApp(log_store, self._metrics)
        self.logs = CloudWatch(log_store, self._metrics, put, region)

    def load(self) -> None:
        """Import the data of an earlier version, and delete unused files of a killed server."""
        for request in self._moto.earlier_requests(("s3", "logs")):
            environ = request.environ()
            self._respond(environ, Scope(request.service, request.region))
        self.objects.sweep()

    def close(self) -> None:
        """Close all files; no data is lost if this is not called."""
        self._metrics.close()
        self.objects.close()
        self._moto.close()

    def find_key(self, key_id: str) -> Key | None:
        """The active access key of IAM or STS with this ID; None if there is none."""
        return self._moto.find_key(key_id)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        found = scope(environ) or Scope("s3", "us-east-1")
        # Limited to the body's length: reading further would wait for the client forever.
        environ["wsgi.input"] = get_input_stream(environ)
        return self._respond(environ, found)(environ, start_response)

    def _respond(self, environ: Environ, found: Scope) -> "WSGIApplication":
        """The response; errors are in the service's format."""
        try:
            if found.service == "s3":
                return self._s3.answer(environ, found.region)
            if found.service not in SERVICES:
                raise _unknown_service(found.service)
            return self._answer(environ, found)
        except ServiceError as problem:
            return answers.error(environ, found.service, problem)
        except HTTPException as refusal:
            return refusal
        except Exception as failure:
            return answers.error(environ, found.service, _problem(environ, failure))

    def _answer(self, environ: Environ, found: Scope) -> Response:
        request = Request.of(environ, found.service, found.region, environ["wsgi.input"].read())
        environ[OPERATION] = request.operation
        if found.service == "logs":
            return self._logs.answer(request.operation, found.region, request.members)
        if found.service == "iam" and request.operation in simulation.ACTIONS:
            text = simulation.simulate(parse_qs(request.body.decode()))
            return Response(text, content_type="text/xml")
        signed = claim(environ)
        return self._moto.answer(request, signed.key_id if signed else "local")


def _problem(environ: Environ, failure: Exception) -> ServiceError:
    if isinstance(failure, NotImplementedError):
        return ServiceError("NotImplemented", f"The local SageMaker: {failure}.", 501)
    logger.error("%s failed", environ.get("PATH_INFO"), exc_info=failure)
    if isinstance(failure, OSError | sqlite3.OperationalError):
        return ServiceError("InternalError", f"Nothing was kept: {failure}.", 507)
    what = f"{type(failure).__name__}: {failure}"
    return ServiceError("InternalError", f"The server failed on this request: {what}.", 500)


def _unknown_service(service: str) -> ServiceError:
    return ServiceError(
        "UnknownService",
        f"The local SageMaker has no service {service!r}; it has sagemaker, sagemaker-runtime, "
        "s3, ecr, iam, sts, logs and cloudwatch.",
        501,
    )

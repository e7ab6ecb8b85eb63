"""S3, ECR, IAM, STS, CloudWatch Logs and CloudWatch: what answers for each of them.

moto answers from memory. Here its objects are files, its log events too, and whatever else a client
changed is in a journal: all of it is there again after the process ends, however it ends.
"""

import io
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from moto.backends import get_backend
from moto.moto_server import werkzeug_app
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from local.emulator.aws import answers, signature, simulation
from local.emulator.aws.changes import Action, Change
from local.emulator.aws.cloudwatch import CloudWatch, Metrics, read_request
from local.emulator.aws.compaction import place_of
from local.emulator.aws.journal import Clock, Journal, Request
from local.emulator.aws.keys import EXAMPLE_SESSIONS, Keys
from local.emulator.aws.logs.app import LogsApp
from local.emulator.aws.logs.store import LogStore
from local.emulator.aws.role import creation
from local.emulator.aws.s3.app import S3App
from local.emulator.aws.s3.store import ObjectStore
from local.emulator.credentials import ACCOUNT
from local.emulator.errors import ServiceError
from local.emulator.home import Home

logger = logging.getLogger(__name__)

SERVICES = {
    "s3": "s3",
    "ecr": "ecr",
    "iam": "iam",
    "sts": "sts",
    "logs": "logs",
    "monitoring": "cloudwatch",
}
"""Signing name → moto's name."""
IN_MEMORY = ("iam", "ecr", "sts", "cloudwatch")
"""moto's services whose state is forgotten when a server starts or ends."""
READING = (
    "Get",
    "List",
    "Describe",
    "Head",
    "Batch",
    "Filter",
    "Test",
    "Start",
    "Stop",
    "Generate",
)
"""How operations begin that change nothing worth keeping."""
NOT_KEPT = {"InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"}
"""Gigabytes that moto's ECR takes and never gives back."""
HEADERS = ("X_AMZ_TARGET", "X_AMZ_ACL", "X_AMZ_GRANT", "X_AMZ_BUCKET", "X_AMZ_OBJECT", "SMITHY")
"""How headers begin (as WSGI writes them) that a request told again needs."""

OPERATION = "berth.operation"
"""Where a request's environment tells the server what was asked, for its log."""

Environ = dict[str, Any]
_alone = threading.Lock()


class Moto:
    """A WSGI application for moto's services, and the parts that keep what it is told.

    Attributes:
        objects: S3's objects.
        logs: CloudWatch's logs and metrics.
    """

    def __init__(self, home: Home, region: str, keys: Keys) -> None:
        if not _alone.acquire(blocking=False):
            raise RuntimeError("one local SageMaker at a time in a process: moto's state is shared")
        _forget(IN_MEMORY)
        self._region, self._keys = region, keys
        self._clock = Clock()
        self._journal = Journal(home.path / "requests.sqlite")
        self._telling = threading.Lock()
        self._apps: dict[str, Any] = {}
        self._making = threading.Lock()
        self.objects = ObjectStore(home.objects)
        self._s3 = S3App(self.objects)
        self._log_store = LogStore(home.logs)
        self._logs_app = LogsApp(self._log_store)
        self._metrics = Metrics(home.logs, self._put_metric_data)
        self.logs = CloudWatch(self._log_store, self._metrics, region)
        # Any web page could read a user's buckets if every answer said that it may.
        setattr(werkzeug_app, "DISABLE_GLOBAL_CORS", True)  # noqa: B010 - not exported

    def load(self) -> None:
        """Make moto what it was: buckets, roles, repositories, objects, logs, metrics."""
        for number, request in self._journal.numbered():
            environ = _environ(request)
            if request.service in ("s3", "logs"):  # of a home from when moto answered for them
                run_wsgi_app(self, environ)
                self._journal.remove(number)
                continue
            with self._clock.telling(request):
                try:
                    response = _call(self._app(request.service), environ)
                    status = response.status_code
                except Exception:
                    logger.exception("%s %s cannot be told again", request.method, request.target)
                    continue
            if status >= 400:
                logger.warning("%s %s: %d now", request.method, request.target, status)
            else:
                _change(request).settle(self._journal, number, response)
        self.objects.sweep()
        self._metrics.load()
        role = creation(self._region)
        # Refused, and not kept, when it is there already.
        scope = signature.Scope(role.service, role.region)
        self._tell(_environ(role), scope, _change(role))

    def close(self) -> None:
        """Close all files and give moto its own back; nothing is lost without it."""
        self.objects.close()
        self._journal.close()
        self._clock.close()
        _forget(IN_MEMORY)
        _alone.release()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        scope = signature.scope(environ) or signature.Scope("s3", "us-east-1")
        # Never past the request's end, where a reader would wait for the client for ever.
        environ["wsgi.input"] = get_input_stream(environ)
        try:
            if scope.service == "s3":
                response = self._s3.answer(environ, scope.region)
            elif scope.service in SERVICES:
                response = self._answer(environ, scope)
            else:
                raise _unknown_service(scope.service)
        except ServiceError as problem:
            response = answers.error(environ, scope.service, problem)
        except HTTPException as refusal:
            return refusal(environ, start_response)
        except Exception as failure:
            response = answers.error(environ, scope.service, _problem(environ, failure))
        return response(environ, start_response)

    def _answer(self, environ: Environ, scope: signature.Scope) -> Response:
        body = environ["wsgi.input"].read()
        operation = environ[OPERATION] = operation_name(environ, body)
        if scope.service == "iam" and operation in simulation.ACTIONS:
            text = simulation.simulate(parse_qs(body.decode()))
            return Response(text, content_type="text/xml")
        if scope.service == "logs":
            return self._logs_app.answer(operation, scope.region, _members(environ, body))
        environ["wsgi.input"] = io.BytesIO(body)
        reads = operation.startswith(READING) and operation != "BatchDeleteImage"
        if scope.service == "sts" and operation in EXAMPLE_SESSIONS:
            answer = _call(self._app("sts"), environ)
            if answer.status_code == 200:
                answer.set_data(self._keys.session(answer.get_data(as_text=True)))
            return answer
        if operation == "PutMetricData":
            answer = _call(self._app(scope.service), environ)
            if answer.status_code == 200:
                points = read_request(environ.get("CONTENT_TYPE", ""), body)
                self._metrics.keep(scope.region, *points)
            return answer
        if scope.service == "sts" or reads or operation in NOT_KEPT:
            return _call(self._app(scope.service), environ)
        return self._tell(
            environ,
            scope,
            Action(place_of(scope.service, scope.region), operation, _members(environ, body)),
        )

    def _tell(self, environ: Environ, scope: signature.Scope, change: Change) -> Response:
        """Tell moto to change something, and keep the request if it did."""
        request = _request(environ, scope, environ["wsgi.input"].read())
        with self._telling:
            number = self._journal.add(request)
            try:
                with self._clock.telling(request):
                    environ["wsgi.input"] = io.BytesIO(request.body)
                    response = _call(self._app(scope.service), environ)
            except BaseException:
                self._journal.remove(number)
                raise
            if response.status_code >= 400:
                self._journal.remove(number)
            else:
                change.settle(self._journal, number, response)
        return response

    def _put_metric_data(self, region: str, members: dict[str, Any]) -> None:
        headers = {
            "HTTP_HOST": "127.0.0.1",
            "HTTP_X_AMZ_TARGET": "GraniteServiceVersion20100801.PutMetricData",
            "CONTENT_TYPE": "application/x-amz-json-1.0",
        }
        request = Request("monitoring", region, "POST", "/", headers, json.dumps(members).encode())
        _call(self._app("monitoring"), _environ(request))

    def _app(self, service: str) -> Any:
        with self._making:
            if service not in self._apps:
                self._apps[service] = werkzeug_app.create_backend_app(SERVICES[service])  # type: ignore[arg-type]
            return self._apps[service]


def _change(request: Request) -> Change:
    """What a kept request changes."""
    environ = _environ(request)
    operation = operation_name(environ, request.body)
    place = place_of(request.service, request.region)
    return Action(place, operation, _members(environ, request.body))


def _forget(services: Iterable[str]) -> None:
    """Empty moto's memory of our account: it is the process's, whoever used it before."""
    for service in services:
        backends: Any = get_backend(service)  # type: ignore[call-overload]
        backends[ACCOUNT].clear()


def operation_name(environ: Environ, body: bytes) -> str:
    """What a request asks for, in any of the protocols that have one URL."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rpartition(".")[2]
    if "/operation/" in environ.get("PATH_INFO", ""):
        return str(environ["PATH_INFO"]).rpartition("/")[2]
    form = parse_qs(body.decode(errors="replace")) or signature.query(environ)
    return form.get("Action", ["unknown"])[0]


def _problem(environ: Environ, failure: Exception) -> ServiceError:
    if isinstance(failure, NotImplementedError):
        return ServiceError("NotImplemented", f"The local SageMaker: {failure}.", 501)
    logger.error("%s failed", environ.get("PATH_INFO"), exc_info=failure)
    if isinstance(failure, OSError | sqlite3.OperationalError):
        return ServiceError("InternalError", f"Nothing was kept: {failure}.", 507)
    what = f"{type(failure).__name__}: {failure}"
    return ServiceError("InternalError", f"moto failed on this request: {what}.", 500)


def _unknown_service(service: str) -> ServiceError:
    return ServiceError(
        "UnknownService",
        f"The local SageMaker has no service {service!r}; it has sagemaker, sagemaker-runtime, "
        "s3, ecr, iam, sts, logs and cloudwatch.",
        501,
    )


def _call(app: Any, environ: Environ) -> Response:
    """A WSGI application's answer; its body is not read yet."""
    body, status, headers = run_wsgi_app(app, environ)
    return Response(body, status, headers)


def _members(environ: Environ, body: bytes) -> dict[str, Any]:
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return {name: values[0] for name, values in parse_qs(body.decode()).items()}
    try:
        members = json.loads(body)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def _request(environ: Environ, scope: signature.Scope, body: bytes) -> Request:
    headers = {
        name: str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") and name.removeprefix("HTTP_").startswith(HEADERS)
    }
    headers["HTTP_HOST"] = environ["HTTP_HOST"]
    headers["CONTENT_TYPE"] = environ.get("CONTENT_TYPE", "")
    target = environ.get("RAW_URI") or environ["PATH_INFO"]
    return Request(scope.service, scope.region, environ["REQUEST_METHOD"], target, headers, body)


def _environ(request: Request) -> Environ:
    """A kept request as WSGI has it."""
    path, _, asked = request.target.partition("?")
    builder = EnvironBuilder(
        path=path, query_string=asked, method=request.method, data=request.body
    )
    environ = builder.get_environ()
    builder.close()
    environ.update(request.headers)
    environ["RAW_URI"] = environ["REQUEST_URI"] = request.target
    environ["HTTP_AUTHORIZATION"] = (
        "AWS4-HMAC-SHA256 Credential=local/20000101/"
        f"{request.region}/{request.service}/aws4_request, SignedHeaders=host, Signature=0"
    )
    return environ

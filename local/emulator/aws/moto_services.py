"""IAM, ECR, STS and CloudWatch metrics, served by moto.

moto keeps its state in this process's memory and takes a second to import: the first request that
needs it starts it and replays the journal. Only moto's HTTP interface is used.
"""

import json
import logging
import re
import threading
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from local.emulator.aws import answers
from local.emulator.aws.cloudwatch import (
    MetricStore,
    check_statistics,
    members_of,
    read_request,
)
from local.emulator.aws.compaction import compact
from local.emulator.aws.dates import Dates
from local.emulator.aws.journal import Journal
from local.emulator.aws.requests import Request
from local.emulator.aws.sessions import Sessions
from local.emulator.aws.signature.keys import Key
from local.emulator.home import Home
from local.emulator.ports import Point

logger = logging.getLogger(__name__)

SERVICES = ("iam", "ecr", "sts", "monitoring")
"""The services' signing names."""
READING = ("Get", "List", "Describe", "Head", "Batch", "Start", "Stop", "Generate")
"""Prefixes of operations that change no state worth keeping."""
KEPT_BATCH = "BatchDeleteImage"
NOT_KEPT = {"InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutMetricData"}
"""Not journaled: image layers, which moto never returns, and metrics, which have other files."""
ROLE = "berth"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
"""The trust policy of the initial role: the first job needs a role, and the SDK checks that
SageMaker may assume it."""
_alone = threading.Lock()


class MotoServices:
    """moto with persistent state. Thread-safe; one instance per process."""

    def __init__(self, home: Home, region: str) -> None:
        if not _alone.acquire(blocking=False):
            raise RuntimeError("one local SageMaker at a time in a process: moto's state is shared")
        self._journal = Journal(home.path / "requests.sqlite")
        self._region = region
        # moto has one random generator, which is seeded for each request: one request at a time.
        self._lock = threading.RLock()
        self._app: Any = None
        self._dates = Dates()
        self._sessions = Sessions()
        self._access_keys: dict[str, tuple[str, str]] = {}
        self._metrics = MetricStore(home.logs)

    def close(self) -> None:
        """Close the journal; no data is lost if this is not called."""
        self._journal.close()
        _alone.release()

    def earlier_requests(self, services: Collection[str]) -> Iterator[Request]:
        """Yield the requests that an earlier version journaled for these services; delete each."""
        for number, request in self._journal.numbered():
            if request.service in services:
                yield request
                self._journal.remove(number)

    def answer(self, request: Request, key_id: str = "local") -> Response:
        """Answer a request signed with this key, and journal it if it changed state.

        Raises:
            ServiceError: it requests statistics that moto does not compute.
            OSError: it could not be journaled (the disk is full).
            NotImplementedError: moto lacks the operation.
        """
        operation = request.operation
        if operation in ("GetMetricStatistics", "GetMetricData"):
            check_statistics(request)
        with self._lock:
            self._start()
            if operation == "ListMetrics":
                listed = self._metrics.index.answer(request.region, members_of(request))
                return answers.success(request.headers, operation, listed)
            if request.service == "sts" or _reads(operation) or operation in NOT_KEPT:
                response = self._send(request, key_id)
            else:
                response = self._send_and_keep(request, key_id)
            if response.status_code == 200 and operation == "PutMetricData":
                self._metrics.keep(request.region, *read_request(request))
            if response.status_code == 200 and request.service == "sts":
                self._sessions.add(operation, response)
            self._dates.restore(response)
        return response

    def put_metric_data(self, region: str, namespace: str, points: list[Point]) -> None:
        """Publish metric data."""
        with self._lock:
            self._metrics.keep(region, namespace, points)
            if self._app is not None:
                self._forward(region, namespace, points)

    def find_key(self, key_id: str) -> Key | None:
        """The active key of an IAM user or STS session with this ID; None if there is none."""
        if session := self._sessions.find(key_id):
            return session
        with self._lock:
            self._start()
            user, secret = self._access_keys.get(key_id, ("", ""))
            if not user:
                return None
            response = self._send(_iam(self._region, "ListAccessKeys", UserName=user))
        root = ElementTree.fromstring(response.get_data())  # noqa: S314 - moto's own
        for node in root.iter():
            facts = {child.tag.rpartition("}")[2]: child.text for child in node}
            if facts.get("AccessKeyId") == key_id and facts.get("Status") == "Active":
                return Key(secret)
        return None

    def _start(self) -> None:
        """Start moto and restore its state, unless it is running."""
        if self._app is not None:
            return
        from moto import server

        self._app = server.DomainDispatcherApplication(server.create_backend_app)  # type: ignore[attr-defined]
        try:
            self._control("reset")  # other parts of this process may have used it
            for number, request in self._journal.numbered():
                self._send_again(number, request)
            for region, namespace, points in self._metrics.load():
                self._forward(region, namespace, points)
            self._create_role()
        except BaseException:
            self._app = None
            raise

    def _create_role(self) -> None:
        """Create the initial role; if it exists, the request is rejected and not journaled."""
        trust = json.dumps(TRUST)
        self._send_and_keep(
            _iam(self._region, "CreateRole", RoleName=ROLE, AssumeRolePolicyDocument=trust)
        )

    def _send_again(self, number: int, request: Request) -> None:
        try:
            response = self._send(request)
        except Exception:
            logger.exception("%s: %s failed", request.service, request.operation)
            return
        if response.status_code < 400:
            self._note(number, request, response)
        else:
            status = response.status_code
            logger.warning("%s: %s: %d now", request.service, request.operation, status)

    def _send_and_keep(self, request: Request, key_id: str = "local") -> Response:
        number = self._journal.add(request)
        try:
            response = self._send(request, key_id)
        except BaseException:
            self._journal.remove(number)
            raise
        if response.status_code >= 400:
            self._journal.remove(number)
        else:
            self._note(number, request, response)
        return response

    def _send(self, request: Request, key_id: str = "local") -> Response:
        """Return moto's response; its random names are derived from the request's seed."""
        if not _reads(request.operation):
            self._control(f"seed?a={request.seed}")
        body, status, headers = run_wsgi_app(self._app, request.environ(key_id))
        headers.remove("Access-Control-Allow-Origin")  # any web page could read the response
        return Response(b"".join(body), status, headers)

    def _control(self, command: str) -> None:
        """Call moto's control API."""
        request = Request("", "", "POST", f"/moto-api/{command}", {"HTTP_HOST": "localhost"}, b"")
        body, status, _ = run_wsgi_app(self._app, request.environ())
        if not status.startswith("200"):
            raise RuntimeError(f"moto-api/{command}: {status}: {b''.join(body)[:200]!r}")

    def _note(self, number: int, request: Request, response: Response) -> None:
        """Process the response to a journaled request: compact the journal, note dates and keys."""
        text = response.get_data().decode(errors="replace")  # CBOR is not text
        compact(self._journal, number, request, text)
        self._dates.note(response, request.time, created=request.operation.startswith("Create"))
        if request.operation == "CreateAccessKey":
            names = ("AccessKeyId", "UserName", "SecretAccessKey")
            found = [re.search(f"<{name}>(.*?)</{name}>", text) for name in names]
            key_id, user, secret = (match[1] if match else "" for match in found)
            self._access_keys[key_id] = (user, secret)

    def _forward(self, region: str, namespace: str, points: list[Point]) -> None:
        headers = {
            "HTTP_HOST": "127.0.0.1",
            "HTTP_X_AMZ_TARGET": "GraniteServiceVersion20100801.PutMetricData",
            "CONTENT_TYPE": "application/x-amz-json-1.0",
        }
        body = json.dumps({"Namespace": namespace, "MetricData": points}).encode()
        self._send(Request("monitoring", region, "POST", "/", headers, body))


def _reads(operation: str) -> bool:
    return operation.startswith(READING) and operation != KEPT_BATCH


def _iam(region: str, action: str, **members: str) -> Request:
    form = {"Action": action, "Version": "2010-05-08", **members}
    headers = {
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
    }
    return Request("iam", region, "POST", "/", headers, urlencode(form).encode())

"""Records the requests that boto3 sends, and compares them with snapshots.

`recording` covers every botocore session that is created inside it, by any code.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import botocore
from botocore.awsrequest import AWSResponse

Answer = Callable[[dict[str, Any]], dict[str, Any]]
MARK = "recorded"
STAMP = re.compile(r"\b20\d{6}-\d{6}-\d{3}\b")
MOMENT = re.compile(r"\bat\(20[-0-9T:]+\)")


@dataclass
class Sent:
    """One request sent with boto3.

    Attributes:
        service, operation: botocore's names of the service and the operation.
        parameters: as passed to boto3, with bytes replaced by their number.
        shape: botocore's model of the parameters.
        refused: the error code, or None if the request was accepted.
        asked: whether the command under test sent it, not its preparation.
    """

    service: str
    operation: str
    parameters: dict[str, Any]
    shape: Any
    asked: bool
    refused: str | None = None

    @property
    def reads(self) -> bool:
        """Whether the operation only reads."""
        return self.operation.startswith(("Describe", "List", "Get", "Head", "BatchGet"))

    def plain(self) -> dict[str, Any]:
        """The request as a snapshot stores it."""
        plain = {"request": f"{self.service}:{self.operation}", "parameters": self.parameters}
        return plain if self.refused is None else plain | {"refused": self.refused}


@dataclass
class Recorder:
    """Records the requests of botocore sessions.

    Attributes:
        url: the server of all requests; requests to other servers fail.
        answers: answers to the operations that the server lacks.
        sent: all requests, in order.
        asked: whether the command under test is sending the current requests.
    """

    url: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    asked: bool = False

    def listen(self, session: Any) -> None:
        """Record the requests of the session's clients."""
        events = session.get_component("event_emitter")
        events.register_first("provide-client-params", self._write_down)
        events.register_first("before-send", self._answer)
        events.register("after-call", self._note_answer)

    def requested(self) -> list[Sent]:
        """The requests of the command under test."""
        return [each for each in self.sent if each.asked]

    def _write_down(
        self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any
    ) -> None:
        service = model.service_model.service_name
        sent = Sent(service, model.name, _told(params), model.input_shape, self.asked)
        context[MARK] = sent
        self.sent.append(sent)

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        assert request.url.startswith(self.url), f"{request.url} is not {self.url}"
        answer = self.answers.get(event_name.rpartition(".")[2])
        if answer is None:
            return None
        body = json.dumps(answer(json.loads(request.body)), default=str).encode()
        return AWSResponse(request.url, 200, {}, _Raw(body))

    def _note_answer(
        self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any
    ) -> None:
        if http_response.status_code >= 400:
            context[MARK].refused = parsed["Error"]["Code"]


class _Raw:
    """A response body with urllib3's interface."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Record every session that is created in this context."""
    botocore.register_initializer(recorder.listen)
    try:
        yield recorder
    finally:
        botocore.unregister_initializer(recorder.listen)


def _told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _told(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return deepcopy(value)


def normalised(text: str) -> str:
    """Replace times, which differ between runs."""
    return MOMENT.sub("at(TIME)", STAMP.sub("TIME", text))


def snapshot(command: str, requests: list[Sent]) -> str:
    """Format the requests as a snapshot.

    Consecutive S3 requests are sorted, as threads send them in any order; repetitions are dropped.
    """
    plain = [each.plain() for each in requests]
    ordered: list[dict[str, Any]] = []
    for name, run in groupby(plain, key=lambda each: str(each["request"])):
        together = list(run)
        if name.startswith("s3:"):
            together.sort(key=json.dumps)
        ordered += together
    once = [each for number, each in enumerate(ordered) if each not in ordered[:number][-1:]]
    whole = {"command": command, "requests": once}
    return normalised(json.dumps(whole, indent=2, ensure_ascii=False)) + "\n"


def compare(path: Path, found: str, *, record: bool) -> None:
    """Compare `found` with the snapshot at `path`; with `record`, write it first."""
    if record:
        path.write_text(found, encoding="utf-8")
    assert path.exists(), f"there is no snapshot {path.name}; record it with BERTH_RECORD=1"
    assert found == path.read_text(encoding="utf-8"), (
        f"what is sent is not what {path.name} holds; look at the difference, and if it is meant: "
        "BERTH_RECORD=1"
    )

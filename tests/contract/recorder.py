"""What boto3 sends, written down; and snapshots of it that are kept beside the tests.

Every botocore session made while `recording` is open is listened to, whoever makes it.
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
    """One request.

    Attributes:
        service, operation: whose and which.
        parameters: as they were given to boto3; bytes are told by their number.
        shape: botocore's model of the parameters.
        refused: the error's code; None when it was accepted.
        asked: sent by the command under test, not by what prepared it.
    """

    service: str
    operation: str
    parameters: dict[str, Any]
    shape: Any
    asked: bool
    refused: str | None = None

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.operation.startswith(("Describe", "List", "Get", "Head", "BatchGet"))

    def plain(self) -> dict[str, Any]:
        """As a snapshot holds it."""
        plain = {"request": f"{self.service}:{self.operation}", "parameters": self.parameters}
        return plain if self.refused is None else plain | {"refused": self.refused}


@dataclass
class Recorder:
    """Listens to sessions.

    Attributes:
        url: where every request must go; one that would go elsewhere fails.
        answers: operations answered here, because nobody behind `url` knows them.
        sent: every request, in order.
        asked: whether what is sent now belongs to the command under test.
    """

    url: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    asked: bool = False

    def listen(self, session: Any) -> None:
        """Write down what clients of the session will send."""
        events = session.get_component("event_emitter")
        events.register_first("provide-client-params", self._write_down)
        events.register_first("before-send", self._answer)
        events.register("after-call", self._note_answer)

    def requested(self) -> list[Sent]:
        """What the command under test sent."""
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
    """An answer's body, as urllib3 hands it out."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Listen to every session made meanwhile."""
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
    """Without times: two runs say the same."""
    return MOMENT.sub("at(TIME)", STAMP.sub("TIME", text))


def snapshot(command: str, requests: list[Sent]) -> str:
    """The requests as a snapshot: sorted where threads send in any order, repetitions once."""
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
    """The snapshot at `path` is what was found; with `record` it is written."""
    if record:
        path.write_text(found, encoding="utf-8")
    assert path.exists(), f"there is no snapshot {path.name}; record it with BERTH_RECORD=1"
    assert found == path.read_text(encoding="utf-8"), (
        f"what is sent is not what {path.name} holds; look at the difference, and if it is meant: "
        "BERTH_RECORD=1"
    )

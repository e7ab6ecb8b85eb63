"""Images to an endpoint, predictions back.

    berth invoke flowers rose.jpg tulip.jpg
    berth invoke flowers photos/test --json > predictions.jsonl

A folder of class folders is also an exam: the accuracy by the folders' names is printed.
"""

import base64
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from container.files.regular import open_regular, read_bounded, size_of
from local.client import plan
from local.client.console import table_console
from local.client.images import Picture, find_pictures
from local.client.progress import Progress
from local.client.resize import shrink as make_smaller
from local.commands.options.shared import Common, with_common
from local.errors import UserError, code, one_line
from local.results.predictions import Answer, read_predictions, show

REAL_TIME_LIMIT = 25 * 1024**2
"""Bytes an instance-based endpoint takes in one request (developer guide, quotas)."""
SERVERLESS_LIMIT = 4 * 1024**2
"""Bytes a serverless endpoint takes in one request (developer guide, quotas)."""
MOST_IN_BATCH = 256
"""Instances the container takes in one request."""
PARALLEL = 8
MESSAGE = 500
"""Characters of a container's refusal that are shown; any image may have written it."""


@dataclass(frozen=True)
class Caller:
    """Sends pictures to one endpoint; used by several threads at once.

    Attributes:
        runtime: boto3's client of `sagemaker-runtime`.
        endpoint: the endpoint's name.
        limit: bytes of a request's body.
        top_k: how many classes to ask for; None leaves it to the container.
        shrink: make pictures smaller that exceed the limit, instead of refusing them.
        variant: the production variant to ask; None leaves it to the endpoint.
    """

    runtime: Any
    endpoint: str
    limit: int = REAL_TIME_LIMIT
    top_k: int | None = None
    shrink: bool = False
    variant: str | None = None

    def ask(self, pictures: Sequence[Picture]) -> list[Answer]:
        """The answers for pictures, sent in one request where they fit in it."""
        if len(pictures) == 1:
            return [self._ask_one(pictures[0])]
        # In base64 four bytes stand for three, and the JSON around them takes some.
        room = self.limit // 4 * 3 // len(pictures) - 64
        together = [picture for picture in pictures if _size(picture) <= room]
        answers = self._ask_together(together)
        return [answers.get(picture) or self._ask_one(picture) for picture in pictures]

    def _ask_together(self, pictures: Sequence[Picture]) -> dict[Picture, Answer]:
        """The answers of one request; none if it was refused, as it is for one bad picture."""
        if not pictures:
            return {}
        try:
            instances = [
                {"b64": base64.b64encode(self._load(picture, self.limit)[0]).decode()}
                for picture in pictures
            ]
            body = json.dumps({"instances": instances}).encode()
            rows = self._send(body, "application/json", len(pictures))
        except Exception as error:
            reason(error)
            return {}
        return {picture: Answer(picture, row) for picture, row in zip(pictures, rows, strict=True)}

    def _ask_one(self, picture: Picture) -> Answer:
        try:
            data, shrunk = self._load(picture, self.limit)
            kind = picture.content_type if shrunk is None else "image/jpeg"
            (row,) = self._send(data, kind, 1)
        except Exception as error:
            return Answer(picture, error=reason(error))
        return Answer(picture, row, shrunk=shrunk)

    def _load(self, picture: Picture, limit: int) -> tuple[bytes, int | None]:
        try:
            with open_regular(picture.path) as file:
                size = size_of(file)
                data = read_bounded(file) if size <= limit or self.shrink else b""
        except OSError as error:
            raise UserError(f"{picture.name}: cannot be read: {error.strerror}") from None
        if size <= limit:
            return data, None
        if not self.shrink:
            raise UserError(
                f"{picture.name}: {size:,} bytes, a request takes {limit:,}; "
                "make it smaller, or let --shrink do it"
            )
        smaller = make_smaller(data, limit, picture.name)
        return smaller, len(smaller)

    def request(self, body: bytes | str, kind: str) -> dict[str, Any]:
        """InvokeEndpoint; `kind` is the body's content type."""
        request: dict[str, Any] = {
            "EndpointName": self.endpoint,
            "ContentType": kind,
            "Accept": "application/json",
        }
        if self.top_k is not None:
            request["CustomAttributes"] = f"top_k={self.top_k}"
        if self.variant is not None:
            request["TargetVariant"] = self.variant
        return request | {"Body": body}

    def _send(self, body: bytes, kind: str, count: int) -> list[tuple[tuple[str, float], ...]]:
        answer = self.runtime.invoke_endpoint(**self.request(body, kind))
        return read_predictions(answer["Body"].read(), count)


def reason(error: BaseException) -> str:
    """Why an image has no prediction, in one line: the container's own words where it spoke.

    Raises:
        BaseException: `error` itself, when it is a defect and no answer.
    """
    if code(error) == "ModelError":
        response: dict[str, Any] = getattr(error, "response", {})
        message = str(response.get("OriginalMessage", ""))
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            message = str(json.loads(message)["error"])
        message = " ".join(message.split())[:MESSAGE]
        return f"HTTP {response.get('OriginalStatusCode', '?')}: {message or 'no message'}"
    line = one_line(error)
    if line is None:
        raise error
    return line


def ask_all(
    caller: Caller, pictures: Sequence[Picture], *, batch: int = 1, parallel: int = PARALLEL
) -> list[Answer]:
    """The answers for all pictures, in their order; `batch` of them in a request."""
    groups = list(_groups(pictures, batch))
    answers: list[list[Answer]] = [[] for _ in groups]
    threads = ThreadPoolExecutor(parallel)
    try:
        waiting = {
            threads.submit(caller.ask, group): position for position, group in enumerate(groups)
        }
        with Progress(f"asking {caller.endpoint}", len(pictures)) as progress:
            for done in as_completed(waiting):
                answers[waiting[done]] = done.result()
                progress.advance(len(groups[waiting[done]]))
    finally:
        threads.shutdown(cancel_futures=True)
    return [answer for group in answers for answer in group]


@with_common
def invoke(
    common: Common,
    endpoint: Annotated[str, typer.Argument(help="the endpoint's name")],
    images: Annotated[list[Path], typer.Argument(help="image files, and folders of them")],
    top_k: Annotated[int | None, typer.Option(min=1, help="classes shown (default: 5)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines instead of a table")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="make images smaller that are too large to send")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, max=MOST_IN_BATCH, help="images in one request, as JSON")
    ] = 1,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="requests at once")] = PARALLEL,
    variant: Annotated[str | None, typer.Option(help="the production variant to ask")] = None,
) -> None:
    """Send images to an endpoint; exit status 1 when one of them got no prediction."""
    pictures = find_pictures(images)
    target = common.connect(needs_role=False)
    if target.plan:
        first = pictures[0]
        asked = Caller(None, endpoint, top_k=top_k, variant=variant)
        kind = first.content_type if batch == 1 else "application/json"
        request = asked.request(f"<the bytes of {first.name}>", kind)
        plan.show(target, [("InvokeEndpoint", request)])
        Console().print(f"the like for {len(pictures):,} images", highlight=False)
        return
    caller = Caller(
        runtime=target.client("sagemaker-runtime", connections=parallel),
        endpoint=endpoint,
        limit=payload_limit(target.client("sagemaker"), endpoint),
        top_k=top_k,
        shrink=shrink,
        variant=variant,
    )
    answers = ask_all(caller, pictures, batch=batch, parallel=parallel)
    show(answers, as_json=as_json, out=table_console(), notes=Console(stderr=True))
    if any(answer.error is not None for answer in answers):
        raise typer.Exit(1)


def payload_limit(sagemaker: Any, endpoint: str) -> int:
    """Bytes a request to the endpoint may have.

    Raises:
        UserError: there is no such endpoint, it does not serve, or it answers to S3 only.
    """
    try:
        described = sagemaker.describe_endpoint(EndpointName=endpoint)
    except Exception as error:
        if code(error) == "ValidationException" and "Could not find" in str(error):
            raise UserError(
                f"endpoint {endpoint}: not there; see them with: berth jobs, make one with: "
                "berth deploy"
            ) from None
        raise
    status = described["EndpointStatus"]
    if status in ("Creating", "Deleting", "Failed"):
        raise UserError(f"endpoint {endpoint}: is {status}, expected InService")
    if described.get("AsyncInferenceConfig"):
        raise UserError(f"endpoint {endpoint}: asynchronous, it takes and answers objects in S3")
    variants = described.get("ProductionVariants") or []
    serverless = any(variant.get("CurrentServerlessConfig") for variant in variants)
    return SERVERLESS_LIMIT if serverless else REAL_TIME_LIMIT


def _size(picture: Picture) -> int:
    """Bytes of the file; 0 when it cannot be read, which reading it will tell."""
    try:
        return picture.path.stat().st_size
    except OSError:
        return 0


def _groups(pictures: Sequence[Picture], size: int) -> Iterator[Sequence[Picture]]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]


if __name__ == "__main__":
    from local.cli import main

    sys.exit(main("invoke"))

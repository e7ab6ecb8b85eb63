"""Checks requests that were sent to moto with the local SageMaker, without running them."""

import json
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from werkzeug.test import Client

from local.emulator.api.app import SageMakerApp
from local.emulator.context import Context
from local.emulator.home import Home
from local.emulator.ports import StoredObject
from local.emulator.services import Services
from local.emulator.shapes.parser import parse
from local.emulator.store import Kind, Record, Store
from tests.contract.recorder import Sent

JAVA = {
    r"[\p{Print}]": "[\\x20-\\x7e]",
    r"\p{Print}": "[\\x20-\\x7e]",
    r"\p{ASCII}": "[\\x00-\\x7f]",
    r"\z": r"\Z",
    r"\uD800\uDC00-\uDBFF\uDFFF": "\\U00010000-\\U0010ffff",
}
"""Character classes of Java's regular expressions, and their Python equivalents."""


class Everything:
    """An S3 in which every bucket and every key exists."""

    def bucket_exists(self, bucket: str) -> bool:
        return bool(bucket)

    def keys(self, _bucket: str, prefix: str = "") -> list[StoredObject]:
        return [StoredObject(prefix, 1, "etag")]


class AnyImage:
    """An executor that accepts every image."""

    name, max_hosts = "docker", 16

    def check_image(self, image: str) -> None:
        assert image


class Runner:
    """Stores jobs and endpoints with their final status and runs nothing."""

    def __init__(self, context: Context, kind: Kind, member: str, status: str) -> None:
        self._context, self._kind, self._member, self._status = context, kind, member, status

    def create(self, request: dict[str, Any]) -> Record:
        name, now = request[f"{self._member}Name"], datetime.now(UTC)
        arn = self._context.arn(self._kind, name)
        body = {key: value for key, value in request.items() if key != "Tags"} | {
            f"{self._member}Arn": arn,
            f"{self._member}Status": self._status,
            "CreationTime": now,
        }
        return self._context.store.add(self._kind, name, arn, body)

    def stop(self, name: str) -> None:
        assert self._context.store.get(self._kind, name)

    def update(self, request: dict[str, Any]) -> None:
        assert self._context.store.get(self._kind, request["EndpointName"])

    def delete(self, name: str) -> None:
        self._context.store.delete(self._kind, name)


class SecondOpinion:
    """Checks requests in the order in which they were sent."""

    def __init__(self, folder: Path) -> None:
        home = Home.find(folder)
        self._store = Store(home.database)
        context = Context(
            home,
            "us-east-1",
            self._store,
            Everything(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            AnyImage(),  # type: ignore[arg-type]
        )
        runners: dict[str, Any] = {
            "training": Runner(context, Kind.TRAINING_JOB, "TrainingJob", "Completed"),
            "tuning": Runner(context, Kind.TUNING_JOB, "HyperParameterTuningJob", "Completed"),
            "transform": Runner(context, Kind.TRANSFORM_JOB, "TransformJob", "Completed"),
            "endpoints": Runner(context, Kind.ENDPOINT, "Endpoint", "InService"),
        }
        self._client = Client(SageMakerApp(Services(**vars(context), **runners)))

    def close(self) -> None:
        self._store.close()

    def judge(self, sent: Sent) -> None:
        """Fail unless the local SageMaker accepts or refuses the request as moto did.

        Requests to other services are validated against botocore's models of those services.
        """
        if sent.service == "sagemaker":
            answer = self._client.post(
                "/",
                headers={"X-Amz-Target": f"SageMaker.{sent.operation}"},
                data=json.dumps(sent.parameters),
            )
            accepted = answer.status_code == 200
            assert accepted is (sent.refused is None), (sent.operation, answer.get_data(True))
        elif sent.shape is not None:
            bodies = [name for name, each in sent.shape.members.items() if each.type_name == "blob"]
            shape = copy(sent.shape)
            shape.required_members = [each for each in shape.required_members if each not in bodies]
            _make_readable(shape)
            rest = {name: each for name, each in sent.parameters.items() if name not in bodies}
            assert parse(shape, json.dumps(rest).encode()) == rest


def _make_readable(shape: Any) -> None:
    """Translate the Java patterns of a shape and its members to Python."""
    pattern = shape.metadata.get("pattern")
    if pattern:
        for words, ours in JAVA.items():
            pattern = pattern.replace(words, ours)
        shape.metadata["pattern"] = pattern
    parts = {"structure": lambda: shape.members.values(), "list": lambda: [shape.member]}
    parts["map"] = lambda: [shape.key, shape.value]
    for part in parts.get(shape.type_name, list)():
        _make_readable(part)

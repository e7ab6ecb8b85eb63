"""The Docker engine: its client, its errors, and the local image that a URI names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from docker.errors import APIError, DockerException, NotFound

from local import engine, platforms
from local.emulator.executors import ExecutorError, ImageMissing

_ECR = re.compile(r"^\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/(?P<rest>.+)$")


@dataclass(frozen=True)
class EngineImage:
    """An image on the engine: its id, and what it runs on (`linux/amd64`), if that is known."""

    id: str
    platform: str | None


def connect(timeout: float = engine.TIMEOUT) -> Any:
    """A client of the engine that `docker` itself would use; see `local.engine.connect`.

    Args:
        timeout: seconds for each response.

    Raises:
        ExecutorError: no engine answers.
    """
    try:
        return engine.connect(timeout)
    except engine.NoEngine as error:
        raise ExecutorError(f"{error}; start one, or use --executor process") from None


@contextmanager
def sdk_errors() -> Iterator[None]:
    """Turn the SDK's exceptions into an ExecutorError of one line."""
    try:
        yield
    except APIError as error:
        raise ExecutorError(f"Docker refused: {explanation(error)}") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise ExecutorError(f"the Docker engine went away: {engine.innermost(error)}") from None


def explanation(error: Any) -> str:
    """The engine's explanation of an APIError, in one line."""
    return " ".join(str(error.explanation or error).split())


def find_image(client: Any, image: str) -> EngineImage:
    """The engine's image that a URI names; images are never pulled.

    An ECR URI that the engine does not have under that name means the local image of the same
    repository and tag, the one that `berth push` pushes. A digest may also be the id of a local
    image.

    Raises:
        ImageMissing: it is not on this machine.
        ExecutorError: the engine does not answer.
    """
    names = [image]
    registry = _ECR.match(image)
    if registry:
        names.append(registry["rest"])
    _, _, digest = image.partition("@")
    if digest:
        names.append(digest)
    with sdk_errors():
        for name in names:
            try:
                found = client.images.get(name)
                return EngineImage(str(found.id), platforms.of_image(found.attrs))
            except NotFound:
                continue
            except APIError as error:
                if error.status_code != 400:
                    raise
                raise ImageMissing(f"{image!r} is no image's name: {explanation(error)}") from None
    raise ImageMissing(
        f"image {image} is not on this machine; build it (make build) or docker pull it"
    )

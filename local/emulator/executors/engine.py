"""The Docker engine: its client, its errors, and its images by URI."""

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
    """An image of the engine: its id and, if known, its platform (`linux/amd64`)."""

    id: str
    platform: str | None


def connect(timeout: float = engine.TIMEOUT) -> Any:
    """Connect to the engine that the `docker` command would use; see `local.engine.connect`.

    Args:
        timeout: seconds to wait for each response.

    Raises:
        ExecutorError: no engine is reachable.
    """
    try:
        return engine.connect(timeout)
    except engine.NoEngine as error:
        raise ExecutorError(f"{error}; start one, or use --executor process") from None


@contextmanager
def sdk_errors() -> Iterator[None]:
    """Convert exceptions of the SDK to an ExecutorError with a one-line message."""
    try:
        yield
    except APIError as error:
        raise ExecutorError(f"Docker error: {explanation(error)}") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise ExecutorError(
            f"lost the connection to the Docker engine: {engine.innermost(error)}"
        ) from None


def explanation(error: Any) -> str:
    """The engine's explanation of an APIError, in one line."""
    return " ".join(str(error.explanation or error).split())


def find_image(client: Any, image: str) -> EngineImage:
    """Find an image on the engine; images are never pulled.

    If the engine has no image with an ECR URI, the image with its repository and tag is used, which
    is the one that `berth push` pushes. A digest may also be the id of a local image.

    Raises:
        ImageMissing: the engine does not have it.
        ExecutorError: the engine does not respond.
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
                raise ImageMissing(
                    f"{image!r} is not an image name: {explanation(error)}"
                ) from None
    raise ImageMissing(
        f"image {image} is not on this machine; build it (make build) or docker pull it"
    )

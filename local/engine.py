"""Connection to the Docker engine that the `docker` command would use."""

import os
from contextlib import closing
from typing import Any

TIMEOUT = 120.0
"""Seconds to wait for a response: creating a container is slow when the disk is busy."""


class NoEngine(Exception):
    """No Docker engine is reachable; the message says in one line where and why."""


def connect(timeout: float = TIMEOUT) -> Any:
    """Connect to the engine of `DOCKER_HOST`, or else of the Docker CLI's current context.

    Args:
        timeout: seconds to wait for each response.

    Raises:
        NoEngine: no engine is reachable.
    """
    # Importing the SDK takes 0.1 s, which commands that need no engine should not pay for.
    import requests
    from docker.client import DockerClient
    from docker.errors import DockerException

    where = os.environ.get("DOCKER_HOST", "its usual socket")
    try:
        return DockerClient.from_env(timeout=timeout)
    except (DockerException, requests.RequestException, OSError) as error:
        why = (
            "forward its socket with ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST and "
            "set DOCKER_HOST=unix:///tmp/docker.sock"
            if where.startswith("ssh://")
            else innermost(error)
        )
        raise NoEngine(f"no Docker engine answers at {where} ({why})") from None


def image_facts(image: str, timeout: float) -> dict[str, Any] | None:
    """The output of `docker image inspect`; None without an engine or such an image.

    Args:
        image: its name, with a tag or a digest.
        timeout: seconds to wait for each response.
    """
    try:
        client = connect(timeout)
    except NoEngine:
        return None
    import requests
    from docker.errors import DockerException

    with closing(client):
        try:
            return dict(client.images.get(image).attrs)
        except (DockerException, requests.RequestException, OSError):
            return None


def innermost(error: BaseException) -> str:
    """The root cause in one line: the SDK wraps it several times."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split()) or type(error).__name__

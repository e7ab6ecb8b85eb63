"""The Docker engine that the `docker` command itself would use."""

import os
from contextlib import closing
from typing import Any

TIMEOUT = 120.0
"""Seconds the engine has for one response: a busy disk makes creating a container slow."""


class NoEngine(Exception):
    """No Docker engine answers; one line with where and why."""


def connect(timeout: float = TIMEOUT) -> Any:
    """A client of the engine that `DOCKER_HOST` names, else the Docker CLI's context.

    Args:
        timeout: seconds for each response.

    Raises:
        NoEngine: none answers.
    """
    # The SDK takes a tenth of a second to import, which commands without an engine need not wait.
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
    """What `docker image inspect` shows; None where no engine answers or it has no such image.

    Args:
        image: its name, with a tag or a digest.
        timeout: seconds for each response.
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
    """The innermost reason, in one line: the SDK wraps it several times over."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split()) or type(error).__name__

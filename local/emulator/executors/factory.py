"""Choice of the executor."""

import logging

from local.emulator.executors import Executor, ExecutorError, ExecutorName
from local.emulator.executors.process import ProcessExecutor, repository
from local.emulator.home import Home

ENGINE_TIMEOUT = 2.0
"""Seconds to wait for the engine before `auto` falls back to processes."""
IMAGE = "berth"
"""The repository name of berth's image."""

_log = logging.getLogger(__name__)


def create_executor(home: Home, name: ExecutorName) -> Executor:
    """Create the executor; `auto` is Docker if an engine is reachable and has berth's image.

    Raises:
        ExecutorError: `name` is docker, but no engine is reachable.
    """
    if name == "process":
        return ProcessExecutor(home)
    # Importing the SDK takes 0.1 s, which the process executor does not need.
    from local.emulator.executors.docker import DockerExecutor

    if name == "docker":
        return DockerExecutor(home)
    try:
        if _engine_has_image():
            return DockerExecutor(home)
        _log.info("the Docker engine has no image %s: jobs run as processes", IMAGE)
    except ExecutorError as error:
        _log.info("jobs run as processes: %s", error)
    return ProcessExecutor(home)


def _engine_has_image() -> bool:
    from local.emulator.executors.engine import connect, sdk_errors

    client = connect(timeout=ENGINE_TIMEOUT)
    try:
        with sdk_errors():
            images = client.api.images()
    finally:
        client.close()
    tags = (tag for image in images for tag in image["RepoTags"] or ())
    return any(repository(tag) == IMAGE for tag in tags)

"""Which executor runs the image here."""

import logging
from typing import Literal

from local.emulator.executors import Executor, ExecutorError
from local.emulator.executors.process import ProcessExecutor, repository
from local.emulator.home import Home

ANSWER_SECONDS = 2.0
"""How long an engine may take to answer, before the processes are chosen."""
IMAGE = "berth"
"""The repository of this project's image."""

Choice = Literal["auto", "docker", "process"]

_log = logging.getLogger(__name__)


def choose(home: Home, which: Choice) -> Executor:
    """The executor asked for; `auto` is Docker where an engine answers and has the image.

    Raises:
        ExecutorError: Docker was asked for and no engine answers.
    """
    if which == "process":
        return ProcessExecutor(home)
    # The SDK takes a tenth of a second to import, which processes need not wait for.
    from local.emulator.executors.docker import DockerExecutor

    if which == "docker":
        return DockerExecutor(home)
    try:
        if _engine_has_image():
            return DockerExecutor(home)
        _log.info("the Docker engine has no image %s: jobs run as processes", IMAGE)
    except ExecutorError as error:
        _log.info("jobs run as processes: %s", error)
    return ProcessExecutor(home)


def _engine_has_image() -> bool:
    from local.emulator.executors.engine import answers, connect

    client = connect(timeout=ANSWER_SECONDS)
    try:
        with answers():
            images = client.api.images()
    finally:
        client.close()
    tags = (tag for image in images for tag in image["RepoTags"] or ())
    return any(repository(tag) == IMAGE for tag in tags)

"""Removal of the containers and processes that a killed server left behind."""

import logging

from local.emulator.executors import Executor, ExecutorError
from local.emulator.executors.process import ProcessExecutor
from local.emulator.home import Home

_log = logging.getLogger(__name__)


def clean_up(home: Home, executor: Executor | None = None) -> list[str]:
    """Remove all processes, containers and networks of an earlier server of this home.

    Containers on an engine that does not respond are not removed: a warning names them, and the
    next call tries again.

    Args:
        home: the home.
        executor: the executor that a server is about to use; None if there is none.

    Returns:
        The names of what was removed.

    Raises:
        ExecutorError: the engine of `executor` does not respond.
    """
    names = [] if executor is None else executor.reap()
    used = None if executor is None else executor.name
    if used != "process":
        names += ProcessExecutor(home, {}).reap()
    if used != "docker" and home.containers_marker.exists():
        # Importing the SDK takes 0.1 s.
        from local.emulator.executors.docker import DockerExecutor

        try:
            names += DockerExecutor(home).reap()
        except ExecutorError as error:
            _log.warning(
                "containers berth-%s-… of an earlier server may still be running: %s",
                home.id,
                error,
            )
    return names

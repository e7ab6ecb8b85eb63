"""Removal of what a killed server left running, by whichever executor it was started."""

import logging

from local.emulator.executors import Executor, ExecutorError
from local.emulator.executors.process import ProcessExecutor
from local.emulator.home import Home

_log = logging.getLogger(__name__)


def clean_up(home: Home, executor: Executor | None = None) -> list[str]:
    """Remove every process, container and network an earlier server of this home left.

    Containers on an engine that does not answer stay: a warning names them, and the next call
    tries again.

    Args:
        home: whose they are.
        executor: the one a server is about to use; None when none will.

    Returns:
        Their names.

    Raises:
        ExecutorError: the executor's own engine does not answer.
    """
    names = [] if executor is None else executor.reap()
    used = None if executor is None else executor.name
    if used != "process":
        names += ProcessExecutor(home, {}).reap()
    if used != "docker" and home.containers_marker.exists():
        # The SDK takes a tenth of a second to import.
        from local.emulator.executors.docker import DockerExecutor

        try:
            names += DockerExecutor(home).reap()
        except ExecutorError as error:
            _log.warning(
                "containers named berth-%s-… of an earlier server may still run: %s", home.id, error
            )
    return names

"""What a killed server left running, removed whichever executor it used, or the next one uses."""

import logging
from pathlib import Path

from local.emulator.executors import Executor, ExecutorError
from local.emulator.executors.process import ProcessExecutor
from local.emulator.home import Home

_log = logging.getLogger(__name__)


def note_of(home: Home) -> Path:
    """The file that is there while the home may have containers or networks on an engine."""
    return home.path / "containers"


def said_file(base: Path) -> Path:
    """Where all that a container printed lies after `reap`, when its engine still knew it.

    It went on when its server was killed, and nobody heard it any more.
    """
    return base.with_name(f"{base.name}.said")


def clean_up(home: Home, executor: Executor | None = None) -> list[str]:
    """Remove every process, container and network an earlier server of this home left.

    Containers that an engine which is gone has kept are named in a warning, and looked for again
    the next time.

    Args:
        home: whose they are.
        executor: the one a server is about to use; None when none will.

    Returns:
        Their names.

    Raises:
        ExecutorError: the executor's own engine does not answer.
    """
    names = [] if executor is None else executor.reap()
    used = "" if executor is None else executor.name
    if used != "process":
        names += ProcessExecutor(home, {}).reap()
    if used != "docker" and note_of(home).exists():
        # The SDK takes a tenth of a second to import.
        from local.emulator.executors.docker import DockerExecutor
        from local.emulator.executors.leftovers import home_id

        try:
            names += DockerExecutor(home).reap()
        except ExecutorError as error:
            _log.warning(
                "containers named berth-%s-… may still run, an earlier server started them: %s",
                home_id(home),
                error,
            )
    return names

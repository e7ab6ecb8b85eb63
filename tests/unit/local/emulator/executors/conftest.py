import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulator.executors import Container, ContainerSpec, Executor
from local.emulator.executors.process import Commands
from tests.unit.local.emulator.executors.containers import Start, StartedContainer


@pytest.fixture(scope="session")
def toy_commands(toy_commands: Commands) -> Commands:
    """Return the toy's commands, and Python, which is a command in the toy image too."""
    return {"toy": {**toy_commands["toy"], "python3": (sys.executable,)}}


@pytest.fixture
def start(tmp_path: Path, toy_uri: str) -> Iterator[Start]:
    containers: list[Container] = []

    def run(executor: Executor, script: str, name: str = "job", **options: Any) -> StartedContainer:
        started = StartedContainer(tmp_path / name)
        started.base.mkdir(exist_ok=True)
        spec = ContainerSpec(
            name,
            options.pop("image", toy_uri),
            (script,),
            started.base,
            entrypoint=("python3", "-u", "-c"),
            **options,
        )
        started.container = executor.start(spec, started.add_line)
        containers.append(started.container)
        return started

    yield run
    for container in containers:
        container.remove()

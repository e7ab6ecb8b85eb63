import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.emulator.executors import Container, ContainerSpec, Executor


@pytest.fixture(scope="session")
def toy_commands(toy_commands):
    """The toy's verbs, and Python itself: in the toy image it is a command too."""
    return {"toy": {**toy_commands["toy"], "python3": (sys.executable,)}}


@dataclass
class Started:
    """A container under way and the lines it printed so far."""

    container: Container
    lines: list[str]
    base: Path

    def until(self, condition: Callable[[], object]) -> None:
        """Come back when it holds."""
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, self.lines
            time.sleep(0.01)

    def until_says(self, line: str) -> None:
        self.until(lambda: line in self.lines)


@pytest.fixture
def start(tmp_path: Path, toy_uri: str) -> Iterator[Callable[..., Started]]:
    """start(executor, script, name="job", **spec): run a Python script; removed at the end."""
    containers: list[Container] = []

    def run(executor: Executor, script: str, name: str = "job", **options: Any) -> Started:
        base = tmp_path / name
        base.mkdir(exist_ok=True)
        lines: list[str] = []
        spec = ContainerSpec(
            name,
            options.pop("image", toy_uri),
            (script,),
            base,
            entrypoint=("python3", "-u", "-c"),
            **options,
        )
        containers.append(executor.start(spec, lines.append))
        return Started(containers[-1], lines, base)

    yield run
    for container in containers:
        container.remove()

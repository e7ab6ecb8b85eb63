"""The harness of training jobs, with the executor that a test chooses."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.emulator.executors import Executor
from tests.unit.local.emulator.training_harness import TrainingHarness, build


@pytest.fixture
def harness(toy_executor: Executor, tmp_path: Path) -> Iterator[TrainingHarness]:
    with closing(build(tmp_path, toy_executor)) as harness:
        yield harness

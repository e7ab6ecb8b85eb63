"""The tests here need an NVIDIA GPU: `make gpu` runs them, and nothing else collects them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if os.environ.get("BERTH_GPU") else ["test_*.py"]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A function that puts a figure into the test's row."""
    return lambda text: record_property("figure", text)


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that gives a fresh tree with generated pictures in its channels."""
    from flows import write_job

    def make(**hyperparameters: object) -> Path:
        base: Path = tmp_path_factory.mktemp("job")
        write_job(base, hyperparameters)
        return base

    return make

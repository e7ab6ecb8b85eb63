"""A SageMaker that starts nothing, and the folder it keeps its state in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import serve


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path / "home")


@pytest.fixture
def server(home: Home) -> Iterator[Server]:
    with serve(home) as server:
        yield server

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from serve.models.known import KnownModels


@pytest.fixture
def file() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file


def test_the_models_written_last_are_read(file: BinaryIO) -> None:
    known = KnownModels(file)
    assert known.read() == {}
    known.write({"a": "/models/a", "ü": "/models/ü"})
    assert KnownModels(file).read() == {"a": "/models/a", "ü": "/models/ü"}
    known.write({"b": "/b"})
    assert known.read() == {"b": "/b"}
    known.write({})
    assert known.read() == {}


def test_a_truncated_file_is_ignored(file: BinaryIO) -> None:
    known = KnownModels(file)
    known.write({"a": "/models/a"})
    os.ftruncate(file.fileno(), 9)
    assert known.read() == {}
    # Killed after writing, before truncating the longer earlier content.
    known.write({"a": "/models/a"})
    os.pwrite(file.fileno(), b"{}\n", 0)
    assert known.read() == {}

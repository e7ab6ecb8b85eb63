"""Which models SageMaker has had loaded, kept across the death of a worker process."""

import json
import os
from collections.abc import Mapping
from typing import BinaryIO


class KnownModels:
    """URLs by name in an open file that a worker's successor inherits.

    SageMaker is not told that a worker was killed, for want of memory perhaps, and goes on invoking
    what it has had loaded.

    Args:
        file: open for reading and writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._open = file  # else it would be closed with its last reference
        self._file = file.fileno()

    def read(self) -> dict[str, str]:
        """What was written last; nothing where the file holds none, or half of it."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        try:
            found = json.loads(data.partition(b"\n")[0])
        except ValueError:
            return {}
        return {str(name): str(url) for name, url in found.items()}

    def write(self, models: Mapping[str, str]) -> None:
        """Keep these instead; a full disk keeps none."""
        data = json.dumps(models).encode() + b"\n"
        try:
            os.pwrite(self._file, data, 0)
            os.ftruncate(self._file, len(data))
        except OSError:
            os.ftruncate(self._file, 0)

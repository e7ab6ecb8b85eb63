"""The models that SageMaker loaded, kept when a worker process dies."""

import json
import os
from collections.abc import Mapping
from typing import BinaryIO


class KnownModels:
    """URLs by name, in an open file that the next worker inherits.

    SageMaker does not learn that a worker was killed, perhaps for lack of memory, and continues to
    invoke the models it loaded.

    Args:
        file: open for reading and writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._open = file  # a reference, so that it is not closed
        self._file = file.fileno()

    def read(self) -> dict[str, str]:
        """The last written URLs by name; empty if the file is empty or truncated."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        try:
            found = json.loads(data.partition(b"\n")[0])
        except ValueError:
            return {}
        return {str(name): str(url) for name, url in found.items()}

    def write(self, models: Mapping[str, str]) -> None:
        """Replace the file's content; on a full disk it becomes empty."""
        data = json.dumps(models).encode() + b"\n"
        try:
            os.pwrite(self._file, data, 0)
            os.ftruncate(self._file, len(data))
        except OSError:
            os.ftruncate(self._file, 0)

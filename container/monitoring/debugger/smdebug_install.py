"""How smdebug 1.0.34 is installed and loaded: on any Python, beside a current protobuf.

It requires protobuf 3.20 and pyinstrument 3.4, which no Python after 3.11 has and nobody mends, so
it is installed without what it requires; `pyproject.toml` names what it imports, newer. Its
generated protobuf code is of the kind that only protobuf's Python implementation still takes, the
only one that protobuf 3.20 had on Python 3.11 too.
"""

import importlib.util
import os
import sys

from container.errors import DataError

SMDEBUG = "smdebug==1.0.34"
INSTALL = f"pip install --no-deps {SMDEBUG}"
"""The command that installs it."""
IMPLEMENTATION = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
"""protobuf's environment variable, read when protobuf is imported."""


def prepare() -> None:
    """Prepare this process and its subprocesses to import smdebug.

    Raises:
        DataError: it is not installed, or protobuf was already loaded with an implementation that
            smdebug does not support.
    """
    if importlib.util.find_spec("smdebug") is None:
        raise DataError(f"debugger: found no smdebug in {sys.prefix}, expected it there: {INSTALL}")
    os.environ[IMPLEMENTATION] = "python"
    loaded = sys.modules.get("google.protobuf.internal.api_implementation")
    if loaded is not None and loaded.Type() != "python":
        raise DataError(
            f"debugger: found protobuf's implementation {loaded.Type()!r} loaded already, expected "
            f"'python', which smdebug needs: start the process with {IMPLEMENTATION}=python"
        )

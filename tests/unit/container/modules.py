"""Imports Python modules a second time in the test's own process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_anew(*packages: str) -> Iterator[None]:
    """Import these packages inside the block as in a process that has not imported them yet.

    It avoids a new process, which would need seconds to import PyTorch.
    """

    def of_packages() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in packages]

    before = {name: sys.modules.pop(name) for name in of_packages()}
    try:
        yield
    finally:
        for name in of_packages():
            del sys.modules[name]
        sys.modules.update(before)

"""Python modules imported a second time in the test's own process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imported_anew(*packages: str) -> Iterator[None]:
    """Within the block the packages are imported as by a process that had not yet done so.

    It takes the place of a process that would first spend seconds on importing PyTorch.
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

"""How many jobs run at once; the others wait, first come, first served."""

import threading
from collections import deque
from collections.abc import Callable


class ConcurrencyLimit:
    """A semaphore that calls back instead of blocking.

    `granted` is called once for each `acquire`, from any thread, when a place is free.

    Args:
        limit: how many may hold a place at once.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def acquire(self, granted: Callable[[], None]) -> None:
        """Wait in line for a place."""
        with self._lock:
            if not self._free:
                self._waiting.append(granted)
                return
            self._free -= 1
        granted()

    def release(self, granted: Callable[[], None]) -> None:
        """Leave the line, or release the place if it was granted already."""
        with self._lock:
            if granted in self._waiting:
                self._waiting.remove(granted)
                return
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following()

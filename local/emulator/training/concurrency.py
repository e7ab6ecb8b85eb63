"""A limit on the number of jobs that run at the same time; others wait in order."""

import threading
from collections import deque
from collections.abc import Callable


class ConcurrencyLimit:
    """A semaphore that calls back instead of blocking.

    `granted` is called once for each `acquire`, from any thread, when a slot is free.

    Args:
        limit: number of slots.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def acquire(self, granted: Callable[[], None]) -> None:
        """Queue for a slot."""
        with self._lock:
            if not self._free:
                self._waiting.append(granted)
                return
            self._free -= 1
        granted()

    def release(self, granted: Callable[[], None]) -> None:
        """Release the slot, or leave the queue if it was not granted yet."""
        with self._lock:
            if granted in self._waiting:
                self._waiting.remove(granted)
                return
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following()

"""How many jobs run at once; the others wait, first come, first served."""

import threading
from collections import deque
from collections.abc import Callable


class Slots:
    """A number of places; `grant` is called once, from any thread, when one is free.

    Args:
        count: how many places there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def request(self, grant: Callable[[], None]) -> None:
        """Ask for a place."""
        with self._lock:
            if not self._free:
                self._waiting.append(grant)
                return
            self._free -= 1
        grant()

    def give_back(self, grant: Callable[[], None]) -> None:
        """Stop waiting, or give the place back, whichever it is by now."""
        with self._lock:
            if grant in self._waiting:
                self._waiting.remove(grant)
                return
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following()

"""Background work that outlives a request: threads that the server joins at its end."""

import contextlib
import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Background:
    """Threads of one owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def spawn(self, name: str, work: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Do `work` in a thread.

        Args:
            name: of the thread.
            work: what to do.
            failed: called with the error of an exception that `work` raised, which is a bug.

        Raises:
            RuntimeError: the system has no thread left; `work` is not done.
        """

        def run() -> None:
            try:
                work()
            except Exception as error:
                _log.exception("%s", name)
                with contextlib.suppress(Exception):
                    failed(f"{type(error).__name__}: {error}")
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=name, daemon=True)
        # `join` must find only threads that have begun; one that ends at once waits for the lock.
        with self._lock:
            thread.start()
            self._threads.add(thread)

    def join(self) -> None:
        """Wait until all work has ended."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()

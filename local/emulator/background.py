"""Background threads that outlive a request; the server joins them when it stops."""

import contextlib
import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Background:
    """The background threads of one owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def spawn(self, name: str, work: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Run `work` in a thread.

        Args:
            name: the thread's name.
            work: the function to run.
            failed: called with the message of an exception that `work` raised, which is a bug.

        Raises:
            RuntimeError: the system cannot start another thread; `work` does not run.
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
        # `join` must only find started threads; a thread that ends at once waits for the lock.
        with self._lock:
            thread.start()
            self._threads.add(thread)

    def join(self) -> None:
        """Wait for all threads to end."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()

"""gunicorn's threaded worker, which does not hold up a shutdown for connections nobody uses."""

from types import FrameType

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Told to end, answers what was asked and closes idle keep-alive connections at once.

    The original sleeps until the whole grace period is over when a client keeps one open, which is
    how clients of an endpoint behave.
    """

    gpu: str | None = None
    """The GPU this worker was given, as CUDA_VISIBLE_DEVICES names it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM."""
        super().handle_exit(sig, frame)
        self.method_queue.defer(self._expire_idle)

    def _expire_idle(self) -> None:
        # The event loop closes expired connections after each round of events.
        for connection in (*self.keepalived_conns, *self.pending_conns):
            connection.timeout = 0.0

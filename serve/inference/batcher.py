"""Dynamic batching of concurrent requests, without added latency for a single one.

There is no timer. An idle engine takes an image at once, and images that arrive while it is busy
form the next batch. So batches grow with the load, and at concurrency 1 the latency is the
engine's.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from time import monotonic
from typing import NamedTuple, cast

import numpy as np

from serve.errors import EngineFailed, Overloaded
from serve.payloads.images import Pixels, Probabilities
from serve.records import InvocationRecord


class _QueuedImage(NamedTuple):
    image: Pixels
    result: "Future[Probabilities]"
    record: InvocationRecord
    since: float


class Batcher:
    """A bounded queue in front of one engine.

    Args:
        predict: maps (N, H, W, 3) uint8 or float32 to (N, classes) float32.
        check: raises if the engine no longer works; called after `predict` raised, to tell a failed
            batch from a dead engine.
        max_batch: most images in one forward pass.
        capacity: most images in the queue.
    """

    def __init__(
        self,
        predict: Callable[[Pixels], Probabilities],
        check: Callable[[], None],
        *,
        max_batch: int,
        capacity: int,
    ) -> None:
        self._predict = predict
        self._check = check
        self._max_batch = max_batch
        self._capacity = capacity
        self._queue: deque[_QueuedImage] = deque()
        self._changed = threading.Condition()
        self._closed = ""
        self._busy_since: float | None = None

    def submit(
        self, image: Pixels, record: InvocationRecord | None = None
    ) -> "Future[Probabilities]":
        """Queue one image (H, W, 3); the future returns its (classes,) probabilities.

        The times of waiting and of the forward pass are added to `record`. Cancelling the future
        removes the image from the queue unless its pass has begun.

        Raises:
            Overloaded: `capacity` images wait already.
            EngineFailed: the batcher was closed.
        """
        job = _QueuedImage(image, Future(), record or InvocationRecord(), monotonic())
        with self._changed:
            if self._closed:
                raise EngineFailed(self._closed)
            if len(self._queue) >= self._capacity:
                self._queue = deque(job for job in self._queue if not job.result.cancelled())
            if len(self._queue) >= self._capacity:
                raise Overloaded(f"{self._capacity} images are waiting already")
            self._queue.append(job)
            self._changed.notify()
        return job.result

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return len(self._queue)

    def busy_for(self) -> float:
        """Seconds since the current forward pass began; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    def run(self) -> None:
        """Predict queued images until `close`; runs in its own thread.

        Raises what `check` raised, after every waiting image has failed with EngineFailed.
        """
        while batch := self._take():
            self._busy_since = started = monotonic()
            for job in batch:
                job.record.waited_for_engine(started - job.since)
            try:
                rows = self._predict_batch(batch)
            except Exception as error:
                self._fail(batch, error)
            else:
                seconds = monotonic() - started
                for record in {id(job.record): job.record for job in batch}.values():
                    record.compute += seconds
                for job, row in zip(batch, rows, strict=True):
                    job.result.set_result(row)
            finally:
                self._busy_since = None
            # Otherwise the last batch would stay in memory while idle.
            del batch

    def close(self, cause: str) -> None:
        """Fail all waiting and later images; `run` returns after the current forward pass."""
        with self._changed:
            self._closed = self._closed or cause
            waiting, self._queue = self._queue, deque()
            self._changed.notify_all()
        for job in waiting:
            _set_failed(job, self._closed)

    def _take(self) -> list[_QueuedImage]:
        """Wait for images; up to `max_batch` of one dtype, in order. Empty once closed."""
        with self._changed:
            batch: list[_QueuedImage] = []
            while not batch:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return []
                while self._queue and len(batch) < self._max_batch:
                    if batch and self._queue[0].image.dtype != batch[0].image.dtype:
                        break
                    job = self._queue.popleft()
                    if job.result.set_running_or_notify_cancel():
                        batch.append(job)
            return batch

    def _predict_batch(self, batch: list[_QueuedImage]) -> Probabilities:
        rows = self._predict(cast(Pixels, np.stack([job.image for job in batch])))
        if len(rows) != len(batch):
            raise ValueError(f"the engine returned {len(rows)} rows for {len(batch)} images")
        return rows

    def _fail(self, batch: list[_QueuedImage], error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        try:
            self._check()
        except Exception:
            self.close(cause)
            raise
        finally:
            for job in batch:
                _set_failed(job, cause)


def _set_failed(job: _QueuedImage, cause: str) -> None:
    try:
        job.result.set_exception(EngineFailed(cause))
    except InvalidStateError:
        return  # Its request has cancelled it.

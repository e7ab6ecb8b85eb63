"""Concurrent requests stacked into one forward pass, without making a lone one wait.

There is no timer. An idle engine takes an image the moment it comes; what arrives while it is busy
is taken together when it is free. So batches grow with the load, and latency at concurrency 1 is
that of the engine alone.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from time import monotonic
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]


class Overloaded(Exception):
    """The queue is full."""


class EngineFailed(Exception):
    """The forward pass raised, or the engine is gone."""


class _Job(NamedTuple):
    image: Pixels
    answer: "Future[Probabilities]"


class Batcher:
    """A bounded queue in front of one engine.

    Args:
        predict: (N, H, W, 3) uint8 or float32 to (N, classes) float32.
        check: raises when the engine no longer works; called after `predict` raised, to tell
            one unlucky batch from a dead engine.
        max_batch: most images in one forward pass.
        capacity: most images waiting.
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
        self._queue: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = ""
        self._busy_since: float | None = None

    def submit(self, image: Pixels) -> "Future[Probabilities]":
        """Queue one image (H, W, 3); the answer holds its (classes,) probabilities.

        Cancelling the answer takes the image out of the queue unless its pass has begun.

        Raises:
            Overloaded: `capacity` images wait already.
            EngineFailed: the batcher was closed.
        """
        job = _Job(image, Future())
        with self._changed:
            if self._closed:
                raise EngineFailed(self._closed)
            if len(self._queue) >= self._capacity:
                self._queue = deque(job for job in self._queue if not job.answer.cancelled())
            if len(self._queue) >= self._capacity:
                raise Overloaded(f"{self._capacity} images are waiting already")
            self._queue.append(job)
            self._changed.notify()
        return job.answer

    def busy_for(self) -> float:
        """Seconds the forward pass under way has taken so far; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    def run(self) -> None:
        """Answer images until `close`; belongs in a thread of its own.

        Raises whatever `check` raised, once the engine is dead and every waiting image has been
        answered with EngineFailed.
        """
        while batch := self._take():
            self._busy_since = monotonic()
            try:
                answers = self._answer(batch)
            except Exception as error:
                self._fail(batch, error)
            else:
                for job, answer in zip(batch, answers, strict=True):
                    job.answer.set_result(answer)
            finally:
                self._busy_since = None
            # A local that outlives the pass would keep the last batch alive while idle.
            del batch

    def close(self, cause: str) -> None:
        """Refuse and fail everything, now and later; `run` returns after the pass under way."""
        with self._changed:
            self._closed = self._closed or cause
            waiting, self._queue = self._queue, deque()
            self._changed.notify_all()
        for job in waiting:
            _refuse(job, self._closed)

    def _take(self) -> list[_Job]:
        """Wait for images; up to `max_batch` of one dtype, in order. Empty once closed."""
        with self._changed:
            batch: list[_Job] = []
            while not batch:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return []
                while self._queue and len(batch) < self._max_batch:
                    if batch and self._queue[0].image.dtype != batch[0].image.dtype:
                        break
                    job = self._queue.popleft()
                    if job.answer.set_running_or_notify_cancel():
                        batch.append(job)
            return batch

    def _answer(self, batch: list[_Job]) -> Probabilities:
        answers = self._predict(cast(Pixels, np.stack([job.image for job in batch])))
        if len(answers) != len(batch):
            raise ValueError(f"the engine gave {len(answers)} answers for {len(batch)} images")
        return answers

    def _fail(self, batch: list[_Job], error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        try:
            self._check()
        except Exception:
            self.close(cause)
            raise
        finally:
            for job in batch:
                _refuse(job, cause)


def _refuse(job: _Job, cause: str) -> None:
    try:
        job.answer.set_exception(EngineFailed(cause))
    except InvalidStateError:
        return  # Cancelled by its request in the meantime.

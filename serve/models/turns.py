"""Turns on the processor's cores, so that the engines of several models share them."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from serve.inference.engine import Engine
from serve.payloads.images import Pixels, Probabilities


class Turns:
    """A lock that is given first come, first served.

    Each engine has a thread for each core, so that passes side by side answer no more images than
    one after the other (ResNet-18 and -50 on 2 cores: 0.89 to 1.00 times as many), and as many
    passes would hold their activations. With a plain lock, the engine that has just finished would
    take it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._since: float | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the cores within the block."""
        mine = threading.Lock()
        with self._lock:
            mine.acquire()
            self._waiting.append(mine)
            first = len(self._waiting) == 1
        if not first:
            mine.acquire()
        self._since = monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._since = None
                self._waiting.popleft()
                if self._waiting:
                    self._waiting[0].release()

    def busy_for(self) -> float:
        """Seconds since the current turn began; 0 when the cores are free."""
        since = self._since
        return 0.0 if since is None else monotonic() - since


class TurnTakingEngine:
    """An engine whose passes wait for their turn."""

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self.name = engine.name
        self.max_batch = engine.max_batch
        self.exact = engine.exact
        self._engine = engine
        self._turns = turns

    def predict(self, batch: Pixels) -> Probabilities:
        """As `Engine.predict`."""
        with self._turns.turn():
            return self._engine.predict(batch)

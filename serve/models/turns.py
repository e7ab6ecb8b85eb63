"""A fair lock on the CPU cores, which the engines of several models share."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from serve.inference.engine import Engine
from serve.payloads.images import Pixels, Probabilities


class Turns:
    """A first-in, first-out lock.

    Each engine has a thread per core, so concurrent passes have no higher throughput than
    sequential ones (ResNet-18 and -50 on 2 cores: 0.89 to 1.00 times), but more activations in
    memory. With a plain lock, the engine that has just finished would take it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._since: float | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the cores within the block."""
        ticket = threading.Lock()
        with self._lock:
            ticket.acquire()
            self._waiting.append(ticket)
            first = len(self._waiting) == 1
        if not first:
            ticket.acquire()
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
    """An engine whose forward passes wait for their turn."""

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

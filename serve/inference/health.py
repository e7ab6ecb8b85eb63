"""The server's state, reported by `/ping`."""

import threading
from enum import StrEnum


class State(StrEnum):
    """The states of a server."""

    STARTING = "STARTING"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    FAILED = "FAILED"


class Health:
    """The current state and one line of detail; thread-safe.

    FAILED is final, so that the first cause is kept.

        health = Health()
        health.move(State.LOADING, "reading the model")
        health.status()   # {"status": "LOADING", "detail": "reading the model"}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = State.STARTING
        self._detail = "the server has started and will load the model"

    @property
    def ready(self) -> bool:
        """Whether the model is being served."""
        return self._state is State.READY

    def move(self, state: State, detail: str = "") -> None:
        """Change the state, unless the server has failed."""
        with self._lock:
            if self._state is not State.FAILED:
                self._state, self._detail = state, " ".join(detail.split())

    def status(self) -> dict[str, str]:
        """{"status": ..., "detail": ...}; detail only when it is not empty."""
        with self._lock:
            status = {"status": self._state.value}
            return status | {"detail": self._detail} if self._detail else status

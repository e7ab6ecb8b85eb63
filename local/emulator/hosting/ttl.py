"""Endpoints that are deleted after a time to live: the tag `berth:ttl` of CreateEndpoint."""

import threading
from collections.abc import Callable

from local.emulator.errors import invalid

TTL_TAG = "berth:ttl"
"""A tag of CreateEndpoint: seconds from InService to deletion of the endpoint."""


def read_ttl(tags: dict[str, str]) -> float | None:
    """The seconds in the tag `berth:ttl`; None if there is no such tag.

    Raises:
        ServiceError: it is not a positive number.
    """
    text = tags.get(TTL_TAG)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise invalid(f"Tag {TTL_TAG} is {text!r}; expected a number of seconds above zero")
    return seconds


class TtlTimers:
    """The timers of endpoints with a time to live.

    Args:
        expire: called in a separate thread with the name of an expired endpoint.
    """

    def __init__(self, expire: Callable[[str], None]) -> None:
        self._expire = expire
        self._lock = threading.Lock()
        self._timers: dict[str, threading.Timer] = {}
        self._closed = False

    def set(self, name: str, seconds: float) -> None:
        """Set or reset an endpoint's timer."""
        timer = threading.Timer(max(0.0, seconds), self._expire, [name])
        timer.daemon = True
        with self._lock:
            if self._closed:
                return
            previous = self._timers.pop(name, None)
            self._timers[name] = timer
        if previous is not None:
            previous.cancel()
        timer.start()

    def cancel(self, name: str) -> None:
        """Cancel an endpoint's timer, if it has one."""
        with self._lock:
            timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Cancel all timers; new ones are ignored."""
        with self._lock:
            self._closed = True
            timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()

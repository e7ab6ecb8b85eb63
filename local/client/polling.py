"""Polling: how often to describe a job that is followed or a resource that is waited for."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from local.client.console import print_line
from local.errors import code

if TYPE_CHECKING:
    from rich.console import Console

Response = TypeVar("Response")
FIRST_PAUSE, LONGEST_PAUSE = 0.3, 2.0
"""Shortest and longest pause of a `Backoff`, in seconds."""
THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ServiceUnavailableException",
}
"""Error codes of throttling; boto3 has already retried several times when one is raised."""


class Backoff:
    """Pauses that are short after an event and grow from there."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep, self._pause = sleep, FIRST_PAUSE

    def wait(self, *, happened: bool) -> None:
        """Pause; briefly if something has just `happened`."""
        self._pause = FIRST_PAUSE if happened else min(LONGEST_PAUSE, self._pause * 1.4)
        self._sleep(self._pause)


@dataclass(frozen=True)
class Polling:
    """Times for waiting on a resource, in seconds.

    Attributes:
        interval: the longest pause between two requests; the first pauses are shorter.
        timeout: the longest wait in total.
        log_timeout: the longest wait for the container's log.
    """

    interval: float = 5.0
    timeout: float = 3600.0
    log_timeout: float = 15.0

    def pause(self, passed: float) -> float:
        """The pause before the next request, `passed` seconds after the start."""
        return min(self.interval, 0.5 + passed / 10)


def unless_throttled(request: Callable[[], Response]) -> Response | None:
    """The result of a request; None if the service throttles it."""
    from botocore.exceptions import ClientError

    try:
        return request()
    except ClientError as error:
        if code(error) not in THROTTLED:
            raise
        return None


def poll(
    console: "Console",
    subject: str,
    describe: Callable[[], dict[str, Any]],
    status_member: str,
    polling: Polling,
) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield each response of a Describe operation with the seconds passed, without end.

    On a terminal it shows the status in place; elsewhere it prints a line per change.
    """
    started, shown = time.monotonic(), ""
    with console.status(f"{subject}: requested") as line:
        while True:
            described = describe()
            status = described[status_member]
            passed = time.monotonic() - started
            line.update(f"{subject}: {status}, {passed:.0f} s")
            if status != shown and not console.is_terminal:
                print_line(console, f"{subject}: {status}")
                shown = status
            yield described, passed
            time.sleep(polling.pause(passed))

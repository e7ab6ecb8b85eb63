"""How often a service is polled: for news of a job that is followed, and for the end of a wait."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.client.console import print_line
from local.errors import code

if TYPE_CHECKING:
    from rich.console import Console

FIRST_PAUSE, LONGEST_PAUSE = 0.3, 2.0
"""Seconds between two requests of a `Backoff`."""
THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ServiceUnavailableException",
}
"""Codes of a service that is too busy; boto3 has retried several times by then."""


class Backoff:
    """Pauses that are short after an event, and then longer and longer."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep, self._pause = sleep, FIRST_PAUSE

    def wait(self, *, happened: bool) -> None:
        """Pause, shortly when something just `happened`."""
        self._pause = FIRST_PAUSE if happened else min(LONGEST_PAUSE, self._pause * 1.4)
        self._sleep(self._pause)


@dataclass(frozen=True)
class Polling:
    """How a resource is waited for, in seconds.

    Attributes:
        interval: between two requests at most; the first ones follow faster.
        timeout: in all.
        log_timeout: for the container's log to arrive.
    """

    interval: float = 5.0
    timeout: float = 3600.0
    log_timeout: float = 15.0

    def pause(self, passed: float) -> float:
        """The pause before the next request, `passed` seconds after the start."""
        return min(self.interval, 0.5 + passed / 10)


def unless_throttled(describe: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """The response of a Describe operation; None while the service throttles."""
    from botocore.exceptions import ClientError

    try:
        return describe()
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
    """Each response of a Describe operation with the seconds passed, until the caller breaks off.

    A terminal shows the status as it changes; elsewhere each change is a line.
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

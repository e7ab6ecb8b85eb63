"""Whether a container's server answers."""

import time
import urllib.request


def answers(url: str) -> int:
    """The answer's status; a server says that it serves a moment before it listens."""
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)

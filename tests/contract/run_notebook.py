"""Runs a notebook's file unchanged: `python run_notebook.py NOTEBOOK ARGUMENT…`.

Only sleeps are shortened: the SDK polls an endpoint every 30 seconds, and a local endpoint is in
service after two.
"""

import runpy
import sys
import time

LONGEST = 0.5
"""Longest sleep in seconds."""

_sleep = time.sleep


def _hurried(seconds: float) -> None:
    _sleep(min(seconds, LONGEST))


if __name__ == "__main__":
    time.sleep = _hurried  # type: ignore[assignment]
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")

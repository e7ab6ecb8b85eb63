"""`python run_notebook.py NOTEBOOK ARGUMENT…` runs a notebook's file as it is.

Only its sleeps are shortened: the SDK looks at an endpoint every 30 seconds, and endpoints on
this machine are there after two.
"""

import runpy
import sys
import time

LONGEST = 0.5
"""Seconds of a sleep."""

_sleep = time.sleep


def _hurried(seconds: float) -> None:
    _sleep(min(seconds, LONGEST))


if __name__ == "__main__":
    time.sleep = _hurried  # type: ignore[assignment]
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")

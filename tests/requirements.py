"""Skips or fails tests whose requirements are missing."""

import os
from typing import NoReturn

import pytest


def missing(problem: str, *, required: bool = False) -> NoReturn:
    """Skip the test; in CI, or if `required`, fail it."""
    if required or os.environ.get("CI") == "true":
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)

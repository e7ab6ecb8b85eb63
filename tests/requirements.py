"""What a test does where something it needs is missing."""

import os
from typing import NoReturn

import pytest


def missing(problem: str, *, required: bool = False) -> NoReturn:
    """Skip the test; fail it in CI, where everything must be there, and where it is required."""
    if required or os.environ.get("CI") == "true":
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)

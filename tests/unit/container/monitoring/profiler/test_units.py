import math
from typing import Any

import pytest

from container.monitoring.profiler import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"), (8.5e-4, "850 µs"), (0.0009999, "1.00 ms"), (0.0412, "41.2 ms"),
        (0.412, "412 ms"), (0.99951, "1.00 s"), (3.4, "3.40 s"), (59.96, "1 min 00 s"),
        (312, "5 min 12 s"), (7500, "2 h 05 min"), (3599.7, "1 h 00 min"), (200_000, "2 d 07 h"),
        (-2, "−2.00 s"), (None, "–"), (math.nan, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_seconds(value: Any, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (0.0001, "< 0.1 %"), (0.004, "0.4 %"), (0.0994, "9.9 %"), (0.31, "31 %"),
        (0.9961, "99.6 %"), (0.99999, "99.9 %"), (1.0, "100 %"), (None, "–"),
    ],
)  # fmt: skip
def test_a_share_is_never_rounded_to_0_or_100_percent(share: float | None, text: str) -> None:
    assert units.percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (812, "812 B"), (4.2e6, "4.20 MB"), (999_700, "1.00 MB"), (5e15, "5000 TB")],
)
def test_bytes(value: float, text: str) -> None:
    assert units.data(value) == text
    assert units.data(value, per_second=True) == f"{text}/s"


def test_counts_numbers_and_factors() -> None:
    assert units.count(50_000) == "50\u202f000"
    assert units.number(0.1) == "0.1"
    assert units.number(True) == "true"
    assert units.number(1e-7) == "1e-07"
    assert units.factor(1.449) == "1.45×"
    assert units.factor(12.4) == "12×"


def test_invalid_times_are_not_shown() -> None:
    assert units.moment(0) == "1970-01-01 00:00:00 UTC"
    assert units.moment(1e300) == "–"
    assert units.elapsed(3847) == "1:04:07"
    assert units.elapsed(-5) == "−00:05"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "none"), (True, "true"), (0.5, "0.5"), (8, "8"), ("None", "None")]
)
def test_a_parameters_value_as_users_write_it(value: object, text: str) -> None:
    assert units.plain(value) == text

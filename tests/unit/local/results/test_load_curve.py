import pytest

from local.client.load import Level
from local.results.load_curve import (
    VariantCapacity,
    calls_per_instance,
    fastest_within,
    knee,
    saturated,
    size,
)


def level(concurrency: int, rate: float, milliseconds: float, failed: int = 0) -> Level:
    answers = [milliseconds / 1000] * round(rate * 10)
    return Level(concurrency, 10.0, answers, {"HTTP 503": failed} if failed else {})


RISE = [level(1, 20, 50), level(2, 38, 52), level(4, 39, 100), level(8, 39.5, 195)]


def test_the_knee_is_where_throughput_over_latency_is_greatest() -> None:
    assert knee(RISE).concurrency == 2
    assert knee(RISE[:1]).concurrency == 1


def test_the_fastest_level_within_a_latency() -> None:
    assert fastest_within(RISE, 0.1) is RISE[2]
    assert fastest_within(RISE, 10) is RISE[3]
    assert fastest_within(RISE, 0.01) is None


def test_levels_end_when_more_requests_do_not_help() -> None:
    assert [saturated(RISE[:count]) is None for count in (1, 2, 3, 4)] == [True, True, True, False]
    assert saturated([*RISE[:2], level(4, 60, 80)]) is None
    assert "failed" in str(saturated([RISE[0], level(2, 38, 52, failed=5)]))
    assert saturated([RISE[0], level(2, 38, 52, failed=3)]) is None, "less than one in a hundred"


def test_instances_and_their_price() -> None:
    found = size(RISE[1], VariantCapacity("ml.m5.large", 2), 100)
    assert found.instances == 6, "19 requests/s each"
    assert found.hourly == pytest.approx(6 * 0.115)
    assert found.monthly == pytest.approx(6 * 0.115 * 730)
    assert size(RISE[1], VariantCapacity("ml.x9.large"), 100).hourly is None
    assert calls_per_instance(RISE[1], VariantCapacity("ml.m5.large", 2)) == pytest.approx(
        19 * 60 / 2
    )


def test_a_serverless_endpoint_costs_by_requests() -> None:
    found = size(level(4, 40, 100), VariantCapacity(None, memory_gb=4), 10)
    assert found.instances is None
    assert found.hourly == pytest.approx(10 * 0.1 * 4 * 0.00002 * 3600)

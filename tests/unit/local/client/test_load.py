import threading

import pytest

from local.client.load import Level, measure


def test_the_given_number_of_requests_run_at_once() -> None:
    together = threading.Barrier(4)
    numbers: list[int] = []

    def send(number: int) -> None:
        numbers.append(number)
        if number < 4:
            together.wait(60)

    level = measure(send, 4, 0.05)
    assert level.concurrency == 4
    assert sorted(numbers) == list(range(len(numbers)))
    assert len(level.latencies) == len(numbers)
    assert list(level.latencies) == sorted(level.latencies)
    assert level.seconds >= 0.05
    assert level.rate == pytest.approx(len(numbers) / level.seconds)


def test_failures_are_counted_by_message_and_have_no_latency() -> None:
    level = measure(lambda number: "HTTP 503: full" if number % 2 else None, 1, 0.25)
    assert list(level.errors) == ["HTTP 503: full"]
    assert 0 < level.error_share < 1
    assert len(level.latencies) - level.errors["HTTP 503: full"] in (0, 1)


def test_a_request_running_at_the_end_is_waited_for() -> None:
    def send(_: int) -> None:
        threading.Event().wait(0.3)

    level = measure(send, 1, 0.0)
    assert len(level.latencies) == 1
    assert level.seconds >= level.latencies[0] > 0.2


def test_a_defect_ends_the_measurement() -> None:
    with pytest.raises(ZeroDivisionError):
        measure(lambda number: str(1 // (number - 3)), 2, 60)


def test_percentiles_use_the_nearest_rank() -> None:
    level = Level(1, 10.0, [float(number) for number in range(1, 101)])
    assert [level.percentile(percent) for percent in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert Level(1, 1.0, [3.0]).percentile(99) == 3.0
    assert Level(1, 1.0, []).percentile(99) == float("inf")

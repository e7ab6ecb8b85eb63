import pytest

from container.fit.budget import SAFETY, TimeBudget, minutes_for, spoken


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_runs_out() -> None:
    clock = Clock()
    budget = TimeBudget(120, clock=clock, reserve=30)
    assert (budget.left, budget.free) == (120, 90)
    clock.now += 100
    assert (budget.elapsed, budget.left, budget.free) == (100, 20, 0)


def test_time_spent_before_an_interruption_counts() -> None:
    clock = Clock()
    budget = TimeBudget(120, spent=50, clock=clock)
    clock.now += 10
    assert (budget.elapsed, budget.left) == (60, 60)


def test_measured_work_is_planned_with_a_margin() -> None:
    budget = TimeBudget(100, clock=Clock())
    budget.measured("features", 2, units=50)
    assert budget.cost("features", 100) == pytest.approx(4 * SAFETY)
    assert budget.affords("features", 1000)
    assert not budget.affords("features", 1000, share=0.4)
    assert not budget.affords("features", 10_000)


def test_work_never_measured_has_no_estimate() -> None:
    with pytest.raises(KeyError):
        TimeBudget(100, clock=Clock()).cost("training")


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(20, 0.4), (60, 1.0), (61, 2), (600, 10), (601, 11)]
)
def test_minutes_are_rounded_up_to_cover_the_seconds(seconds: float, minutes: float) -> None:
    assert minutes_for(seconds) == minutes


def test_durations_are_formatted_for_readers() -> None:
    assert [spoken(s) for s in (-1, 47.6, 119, 120, 185)] == [
        "0 s",
        "48 s",
        "119 s",
        "2 min 00 s",
        "3 min 05 s",
    ]

import time
from pathlib import Path

import pytest

from tests.unit.container.fit.planned import planned


class Machine:
    """The clocks of a machine that gives a process only a share of its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
        self.now, self._share = 100.0, share
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self._share * self.now)


@pytest.mark.parametrize(
    ("share", "seconds", "slowness"),
    [(1.0, 8.0, 1.0), (0.25, 8.0, 4.0), (2.0, 8.0, 1.0), (0.1, 0.1, 1.0)],
)
def test_a_machine_that_others_use_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, seconds: float, slowness: float
) -> None:
    fit, _ = planned(tmp_path, 600, [])
    machine = Machine(monkeypatch, share)
    with fit.computing("probe"):
        machine.now += seconds
    assert fit.slowness == pytest.approx(slowness)
    assert fit.budget.costs["probe"] == pytest.approx(seconds)


def test_more_time_is_kept_for_the_end_of_a_slow_machine(tmp_path: Path) -> None:
    fit, _ = planned(tmp_path, 600, [])
    fit.budget.measured("pictures", 2)
    fit.reserve(0.01)
    alone = fit.budget.reserve
    fit.slowness = 4
    fit.reserve(0.01)
    assert fit.budget.reserve > 2 * alone
    fit.budget.measured("artifact", 1)
    fit.reserve(0.01)
    assert fit.budget.reserve < alone


def test_evaluation_takes_as_long_as_there_are_images(tmp_path: Path) -> None:
    fit, _ = planned(tmp_path, 600, [])
    fit.reserve(0.01)
    quick = fit.budget.reserve
    fit.reserve(0.11)  # 200 validation images
    assert fit.budget.reserve == pytest.approx(quick + 1.25 * 200 * 0.1)

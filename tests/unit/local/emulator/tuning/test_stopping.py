import math

import pytest

from local.emulator.tuning.stopping import MEDIAN_TRIALS, Hyperband, below_median

ENDED = [[0.2, 0.4, 0.6], [0.3, 0.5, 0.7], [0.4, 0.6, 0.8]]
"""Running averages up to the second report: 0.3, 0.4, 0.5; up to the third: 0.4, 0.5, 0.6."""


@pytest.mark.parametrize(
    ("reports", "stopped"),
    [
        ([], False),
        ([0.29], True),
        ([0.3], False),
        ([0.0, 0.39], True),
        ([0.0, 0.4], False),
        ([0.9, 0.9, 0.49], True),
        ([0.0, 0.0, 0.51], False),
        ([0.0, 0.0, 0.0, 0.0], False),
        ([math.nan], True),
    ],
)
def test_a_trial_below_the_median_of_running_averages_is_stopped(
    reports: list[float], stopped: bool
) -> None:
    assert below_median("Maximize", reports, ENDED) is stopped
    turned = [[-value for value in each] for each in ENDED]
    assert below_median("Minimize", [-value for value in reports], turned) is stopped


def test_the_median_needs_enough_trials_at_the_same_step() -> None:
    assert not below_median("Maximize", [0.0], ENDED[: MEDIAN_TRIALS - 1])
    assert not below_median("Maximize", [0.0, 0.0, 0.0], [*ENDED[:2], [0.9, 0.9]])
    assert not below_median("Maximize", [0.0], [*ENDED[:2], [math.nan]])


def test_brackets_and_rungs() -> None:
    bands = Hyperband(1, 27)
    assert bands.brackets == 4
    assert [bands.rungs(bracket) for bracket in range(4)] == [[1, 3, 9], [3, 9], [9], []]
    assert Hyperband(2, 20).brackets == 3
    assert Hyperband(2, 20).rungs(0) == [2, 6, 18]
    assert Hyperband(5, 5).rungs(0) == []


def test_brackets_have_the_numbers_of_trials_of_the_paper() -> None:
    bands = Hyperband(1, 27)
    sizes = [sum(bands.bracket(number) == each for number in range(49)) for each in range(4)]
    assert sizes == [27, 12, 6, 4]
    assert [bands.bracket(number + 49) for number in range(49)] == [
        bands.bracket(number) for number in range(49)
    ]


def test_a_rung_lets_the_best_third_continue() -> None:
    bands = Hyperband(1, 9)
    others = {number: [float(number)] for number in range(1, 6)}
    assert not bands.loses("Maximize", 0, [4.5], others)
    assert bands.loses("Maximize", 0, [3.5], others)
    assert not bands.loses("Minimize", 0, [1.5], others)
    assert bands.loses("Minimize", 0, [2.5], others)


def test_at_first_only_the_best_trials_pass_a_rung() -> None:
    bands = Hyperband(1, 9)
    assert not bands.loses("Maximize", 0, [0.1], {})
    assert not bands.loses("Maximize", 1, [0.2], {0: [0.1]})
    assert bands.loses("Maximize", 1, [0.05], {0: [0.1]})
    assert bands.loses("Maximize", 0, [math.nan], {})


def test_trials_are_compared_only_at_rungs_and_within_their_bracket() -> None:
    bands = Hyperband(1, 9)
    winners = {1: [9.0, 9.0, 9.0]}
    assert bands.loses("Maximize", 0, [1.0], winners)
    assert not bands.loses("Maximize", 0, [1.0, 1.0], winners)
    assert bands.loses("Maximize", 0, [1.0, 1.0, 1.0], winners)
    stranger = next(number for number in range(20) if bands.bracket(number) == 1)
    assert not bands.loses("Maximize", stranger, [1.0, 1.0, 1.0], winners)
    late = {1: [9.0]}
    assert not bands.loses("Maximize", 0, [1.0, 1.0, 1.0], late)

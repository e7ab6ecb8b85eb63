from pathlib import Path
from typing import Any

import pytest

from container.fit import rounds
from container.fit.choices import MANY_EPOCHS
from container.fit.leaderboard import Leaderboard, LeaderboardEntry
from container.fit.linear.validation import HeldOut
from container.fit.rounds import fine_tune_promising
from container.fit.state import FineTuningRound, TrialResult
from tests.unit.container.fit.planned import planned
from tests.unit.container.fit.test_leaderboard import tuned

SMALL = TrialResult("resnet18", 64, 0.80, 0.002)
LARGE = TrialResult("resnet18", 128, 0.85, 0.008)


def probe_at(size: int, hits: int) -> LeaderboardEntry:
    found = HeldOut(hits, 200, 0.5)
    return LeaderboardEntry("resnet18", size, "probe", "200 images", found, found, 10, "")


class Backbone:
    def __init__(self, size: int) -> None:
        self.size, self.name = size, f"resnet18 at {size} px"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that plans with the given seconds per image, and returns the planned rounds.

    A round uses all its seconds and predicts `hits` images correctly.
    """
    done: list[tuple[int, int, float, float]] = []

    def run(seconds: float, step: float, hits: tuple[int, ...] = (), probe: int = 170) -> Any:
        fit, clock = planned(tmp_path, seconds, [SMALL, LARGE])
        fit.budget.reserve = 20
        monkeypatch.setattr(fit, "reserve", lambda _seconds: None)
        fit.state.board = Leaderboard([probe_at(128, probe)])
        fit.state.learning["mirrored_alike"] = True
        monkeypatch.setattr(fit, "_loaded", {("resnet18", s): Backbone(s) for s in (64, 128)})
        monkeypatch.setattr(rounds, "step_seconds", lambda _backbone, images: step * images)
        monkeypatch.setattr(rounds, "recipe", recipe)

        def add_probe(_fit: Any, _arch: str, size: int) -> int:
            fit.state.board.add(probe_at(size, 160))
            return len(fit.state.board.entries) - 1

        def run_round(_fit: Any, round_: FineTuningRound) -> None:
            size = fit.state.board.entries[round_.entry].image_size
            epochs, rate = round_.hyperparameters["epochs"], round_.hyperparameters["rate"]
            round_.hyperparameters["learning_rate"] = rate
            done.append((size, epochs, rate, round_.seconds))
            clock.now += round_.seconds if len(done) > len(hits) else 30
            round_.done = True
            found = HeldOut((hits[len(done) - 1] if len(done) <= len(hits) else 0), 200, 0.4)
            entry = tuned(0)
            fit.state.board.add(
                LeaderboardEntry(
                    entry.arch, size, "fine-tuned", entry.how, found, found, 60, entry.detail
                )
            )

        monkeypatch.setattr(rounds, "add_probe", add_probe)
        monkeypatch.setattr(rounds, "_run", run_round)
        fine_tune_promising(fit)
        return fit, done

    def recipe(_backbone: Any, epochs: int, rate: float, **_given: Any) -> Any:
        return {"epochs": epochs, "rate": rate}, []

    return run


def test_rounds_fill_the_time_and_leave_the_end_alone(plan: Any) -> None:
    # An epoch of 1,000 images and 200 for validation takes 1,067 x 0.01 s.
    fit, done = plan(220, 0.01)
    assert [(size, epochs) for size, epochs, _, _ in done] == [(128, 18)]
    assert fit.budget.left >= fit.budget.reserve


def test_a_smaller_image_size_is_taken_for_more_epochs(plan: Any) -> None:
    # 128 px: 3 epochs in 100 s; 64 px, at a quarter of the time: 12.
    _, done = plan(120, 0.03)
    assert [(size, epochs) for size, epochs, _, _ in done] == [(64, 12)]


def test_a_smaller_size_is_chosen_if_only_that_fits_a_few_epochs(plan: Any) -> None:
    _, done = plan(40, 0.03)
    assert [(size, epochs) for size, epochs, _, _ in done] == [(64, 2)]


def test_a_step_measured_far_too_long_is_ignored(plan: Any) -> None:
    # Four forward passes of 0.008 s at most.
    _, done = plan(20 + 24 * 35, 1.0)
    assert done[0][:2] == (128, 24)


def test_features_of_a_smaller_size_take_time_too(plan: Any, monkeypatch: Any) -> None:
    # 2 epochs of 8 s at 64 px fit the 20 s that are left, but not with 1,200 features before.
    monkeypatch.setattr(rounds, "_features_seconds", lambda *_given: 15)
    _, done = plan(40, 0.03)
    assert [(size, epochs) for size, epochs, _, _ in done] == []


@pytest.mark.parametrize(("probe", "hits"), [(200, ()), (170, (200,))])
def test_a_perfect_validation_accuracy_ends_the_rounds(
    plan: Any, probe: int, hits: tuple[int, ...]
) -> None:
    fit, done = plan(3600, 0.01, hits, probe)
    assert len(done) == len(hits)
    assert "no " in fit.state.choices[-1].what
    assert "right on all 200 validation images" in fit.state.choices[-1].why


def test_too_little_time_is_given_as_the_reason(plan: Any) -> None:
    fit, done = plan(24, 0.03)
    assert done == []
    assert fit.state.choices[-1].what == "no fine-tuning"
    assert "4 s are left and an epoch" in fit.state.choices[-1].why


def test_the_learning_rate_of_a_round_depends_on_earlier_rounds(plan: Any) -> None:
    _, done = plan(3600, 0.01, hits=(180, 150, 150, 150))
    assert [epochs for _, epochs, _, _ in done] == [MANY_EPOCHS] * 4
    rates = [rate for _, _, rate, _ in done]
    assert rates[1] > rates[0]


def test_the_learning_rate_falls_after_a_round_that_did_not_help(plan: Any) -> None:
    _, done = plan(3600, 0.01, hits=(150, 150, 150, 150))
    rates = [rate for _, _, rate, _ in done]
    assert rates == sorted(rates, reverse=True)

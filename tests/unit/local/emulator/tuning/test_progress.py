import math

import pytest

from local.emulator.tuning.plan import TuningPlan, read
from local.emulator.tuning.progress import (
    TuningOutcome,
    best,
    converged,
    failure,
    not_improving,
    objective_counters,
    training_counters,
    verdict,
)
from local.emulator.tuning.search import Direction
from local.emulator.tuning.trials import TuningTrial
from tests.unit.local.emulator.tuning_harness import tuning_request


def trials(*objectives: float | None) -> list[TuningTrial]:
    """Return completed trials, and a failed one for each None."""
    return [
        TuningTrial(
            number,
            f"job-{number}",
            {},
            "Failed" if value is None else "Completed",
            None,
            [] if value is None else [value],
            ended=float(number),
        )
        for number, value in enumerate(objectives)
    ]


def plan(**changes: object) -> TuningPlan:
    return read(tuning_request(jobs=20, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("direction", "objectives", "count"),
    [
        ("Maximize", [], 0),
        ("Maximize", [0.5], 0),
        ("Maximize", [0.5, 0.504], 1),
        ("Maximize", [0.5, 0.506], 0),
        ("Maximize", [0.5, 0.503, 0.506], 0),
        ("Maximize", [0.5, 0.4, None, 0.3], 2),
        ("Minimize", [0.5, 0.4, 0.6, 0.399], 2),
        ("Minimize", [-1.0, -1.02], 0),
        ("Minimize", [-1.0, -1.005], 1),
        ("Minimize", [0.0, 0.0], 1),
        ("Maximize", [0.0, 0.001], 0),
    ],
)
def test_an_improvement_is_at_least_one_percent(
    direction: Direction, objectives: list[float | None], count: int
) -> None:
    assert not_improving(direction, trials(*objectives)) == count


def test_trials_are_counted_in_the_order_of_their_ends() -> None:
    both = trials(0.9, 0.5)
    both[0].ended = 5.0
    assert not_improving("Maximize", both) == 0


def test_convergence_needs_ten_trials_and_half_of_all() -> None:
    assert not converged("Maximize", trials(*[0.5] * 10))
    assert converged("Maximize", trials(*[0.5] * 11))
    rising = [0.1 * 1.1**number for number in range(15)]
    assert not converged("Maximize", trials(*rising, *[0.1] * 14))
    assert converged("Maximize", trials(*rising, *[0.1] * 15))


def test_the_first_of_equal_trials_is_the_best() -> None:
    found = trials(None, 0.4, 0.6, 0.6, math.nan)
    assert best("Maximize", found) is found[2]
    assert best("Minimize", found) is found[1]
    assert best("Minimize", trials(None)) is None


def test_counters() -> None:
    some = [
        *trials(0.5, None, math.nan),
        TuningTrial(3, "r", {}),
        TuningTrial(4, "s", {}, "Stopped", "median", [0.1]),
        TuningTrial(5, "i", {}, "Failed", retryable=True),
    ]
    assert training_counters(some) == {
        "Completed": 2,
        "InProgress": 1,
        "RetryableError": 1,
        "NonRetryableError": 1,
        "Stopped": 1,
    }
    assert objective_counters(some) == {"Succeeded": 2, "Pending": 1, "Failed": 3}


def test_verdicts() -> None:
    assert verdict(plan(), [], 0) is None
    assert verdict(plan(), trials(*[None] * 4), 0) is None
    assert verdict(plan(), trials(*[None] * 5), 0) == TuningOutcome("Failed")
    assert verdict(plan(), trials(*[None] * 5, 0.1), 0) is None
    assert verdict(plan(), trials(*[0.1] * 20), 0) == TuningOutcome("Completed")
    limited = plan(limits={"MaxRuntimeInSeconds": 120})
    assert verdict(limited, trials(0.1), 119) is None
    assert verdict(limited, trials(0.1), 120) == TuningOutcome("Completed")
    criteria = {"TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 0.5}}
    up, down = plan(config=criteria), plan(config=criteria, direction="Minimize")
    assert (
        verdict(up, trials(0.5), 0) == verdict(down, trials(0.5), 0) == TuningOutcome("Completed")
    )
    assert verdict(up, trials(0.49), 0) is verdict(down, trials(0.51), 0) is None


def test_failure_reasons_are_actionable() -> None:
    def why(found: list[TuningTrial], lines: list[str]) -> str | None:
        return failure(
            plan(limits={"MaxRuntimeInSeconds": 300}),
            found,
            lambda name: f"{name} broke",
            lambda _, __: lines,
        )

    assert why(trials(None, 0.5), []) is None
    text = why(trials(None, None), [])
    assert text is not None
    assert text.startswith("No training job succeeded after 2 attempts.")
    assert text.endswith("job-1: job-1 broke")
    silent = [TuningTrial(0, "job-0", {}, "Completed")]
    text = why(silent, ["x" * 2000, "the end"])
    assert text is not None
    assert len(text) == 1024
    assert text.endswith("the end")
    assert "toy:score=" in text
    assert str(why(silent, [])).endswith("job-0: (none)")
    late = why([TuningTrial(0, "job-0", {}, "Stopped", "ending")], [])
    assert "MaxRuntimeInSeconds (300)" in str(late)

"""The choice of a trial's hyperparameters: SageMaker's strategies, implemented with Optuna.

A point is a function of the seed, the trial's number and the results of other trials; there is no
sampler with state. A restarted server therefore continues exactly where it stopped, and the results
of `Random` and `Grid` do not depend on timing.
"""

import hashlib
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from local.emulator.tuning.ranges import Categorical, Continuous, Integer, Range, Space, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

State = Literal["running", "complete", "pruned", "failed"]
Direction = Literal["Minimize", "Maximize"]

EXPLORING = 3
"""Random trials, including those of a warm start, before the estimator is used.

Tuning jobs are small. Over 60 seeds and two objectives with four hyperparameters, 3 was better than
Optuna's default of 10 in jobs of 8, 20 and 40 trials. Modelling ranges independently was better
than jointly in jobs of 8 (mean best loss 0.53, jointly 0.81, random 0.75) and equal in jobs of 20.
"""

FRESH_ATTEMPTS = 50
"""Random points to try if the estimator proposes a point that was already tried, as happens in
small spaces."""


@dataclass(frozen=True)
class Known:
    """The known results of a trial.

    Attributes:
        values: its hyperparameters.
        state: its state; `pruned` is a trial that was stopped early.
        objective: the latest objective value; None if there is none.
        reports: every objective value so far, in order.
    """

    values: dict[str, Value]
    state: State
    objective: float | None = None
    reports: tuple[float, ...] = field(default=())


def grid(space: Space) -> list[dict[str, Value]]:
    """All combinations of categorical ranges; the last range changes fastest."""
    choices = [each.values for each in space.ranges if isinstance(each, Categorical)]
    names = [each.name for each in space.ranges]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*choices)]


def randomly(space: Space, seed: int, number: int) -> dict[str, Value]:
    """The point of a trial for the strategy `Random`."""
    from optuna.samplers import RandomSampler

    return _ask(space, "Maximize", RandomSampler(seed=_derived(seed, number, 0)), ())


def bayesian(
    space: Space,
    direction: Direction,
    seed: int,
    number: int,
    known: Sequence[Known],
) -> dict[str, Value]:
    """The point of a trial, from a tree-structured Parzen estimator.

    Running trials count as bad ones (Optuna's constant liar), so that parallel trials are spread
    out. A point that was already tried is replaced by a random new one, if there is one.

    Args:
        space: the ranges.
        direction: whether the objective is minimized or maximized.
        seed: the tuning job's seed.
        number: the trial's number.
        known: earlier trials, those of a warm start first.
    """
    from optuna.samplers import RandomSampler, TPESampler

    sampler = TPESampler(
        seed=_derived(seed, number, 0),
        multivariate=False,
        constant_liar=True,
        n_startup_trials=EXPLORING,
    )
    point = _ask(space, direction, sampler, known)
    tried = [each.values for each in known if each.state != "failed"]
    if space.combinations is None or point not in tried:
        return point
    others = (
        _ask(space, direction, RandomSampler(seed=_derived(seed, number, attempt)), ())
        for attempt in range(1, FRESH_ATTEMPTS)
    )
    return next((each for each in others if each not in tried), point)


def standardized(trials: Iterable[Known]) -> list[Known]:
    """The trials of one tuning job with standardized objectives, for `TransferLearning`.

    With other data, objectives are only comparable relative to the other trials of the same job.
    """
    trials = list(trials)
    objectives = [each.objective for each in trials if each.objective is not None]
    mean = statistics.fmean(objectives) if objectives else 0.0
    spread = statistics.pstdev(objectives) or 1.0 if objectives else 1.0
    return [
        Known(
            each.values,
            each.state,
            None if each.objective is None else (each.objective - mean) / spread,
            tuple((value - mean) / spread for value in each.reports),
        )
        for each in trials
    ]


def _derived(seed: int, number: int, attempt: int) -> int:
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4])


def _ask(
    space: Space, direction: Direction, sampler: object, known: Sequence[Known]
) -> dict[str, Value]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction.lower(), sampler=sampler)  # type: ignore[arg-type]
    distributions = {each.name: _distribution(each) for each in space.ranges}
    study.add_trials([_frozen(space, distributions, each) for each in known])
    params = study.ask(distributions).params
    return {each.name: _outward(each, params[each.name]) for each in space.ranges}


def _frozen(
    space: Space, distributions: "dict[str, BaseDistribution]", known: Known
) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    state = {
        "running": TrialState.RUNNING,
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }[known.state]
    return create_trial(
        state=state,
        value=known.objective if known.state in ("complete", "pruned") else None,
        params={each.name: _inward(each, known.values[each.name]) for each in space.ranges},
        distributions=distributions,
        intermediate_values=dict(enumerate(known.reports, start=1)),
    )


def _distribution(each: Range) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match each:
        case Integer():
            return IntDistribution(each.low, each.high, log=each.scale == "Logarithmic")
        case Categorical():
            return CategoricalDistribution(each.values)
        case Continuous(scale="ReverseLogarithmic"):
            return FloatDistribution(1 - each.high, 1 - each.low, log=True)
        case Continuous():
            return FloatDistribution(each.low, each.high, log=each.scale == "Logarithmic")


def _inward(each: Range, value: Value) -> Value:
    """Convert a value to Optuna's, which searches 1 - x for a reverse logarithmic range."""
    if isinstance(each, Continuous) and each.scale == "ReverseLogarithmic":
        return min(max(1 - float(value), 1 - each.high), 1 - each.low)
    return value


def _outward(each: Range, value: Value) -> Value:
    """Convert a value from Optuna's, and keep it in the range in spite of rounding."""
    if not isinstance(each, Continuous):
        return value
    number = 1 - float(value) if each.scale == "ReverseLogarithmic" else float(value)
    return min(max(number, each.low), each.high)

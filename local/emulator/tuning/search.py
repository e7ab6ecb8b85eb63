"""Which hyperparameters a trial gets: Optuna behind SageMaker's strategies.

A proposal is a function of the seed, the trial's number and what is known of the other trials: no
sampler is kept between two of them. So a restarted server continues exactly where it was, and
for `Random` and `Grid`, which look at no result, timing does not matter.
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
"""How many trials, a warm start's included, are random before the estimator is used.

Tuning jobs are small. Over 60 seeds and two objectives of four hyperparameters, 3 beat Optuna's 10
in jobs of 8, 20 and 40 trials, and ranges modelled one by one beat all together in jobs of 8 (mean
best loss 0.53 against 0.81, 0.75 by chance) and were as good in jobs of 20.
"""

FRESH_ATTEMPTS = 50
"""How many random points are tried when the estimator proposes one that was tried already, as it
does in a small space: a run would be wasted."""


@dataclass(frozen=True)
class Known:
    """What is known of a trial.

    Attributes:
        values: its hyperparameters.
        state: `pruned` is a trial stopped early: it counts, but less than a complete one.
        objective: the latest value; None while there is none.
        reports: every value of the objective so far, in order.
    """

    values: dict[str, Value]
    state: State
    objective: float | None = None
    reports: tuple[float, ...] = field(default=())


def grid(space: Space) -> list[dict[str, Value]]:
    """Every combination of a space of categorical ranges; the last range changes fastest."""
    choices = [each.values for each in space.ranges if isinstance(each, Categorical)]
    names = [each.name for each in space.ranges]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*choices)]


def randomly(space: Space, seed: int, number: int) -> dict[str, Value]:
    """The point `Random` gives the trial with this number, whatever became of the others."""
    from optuna.samplers import RandomSampler

    return _ask(space, "Maximize", RandomSampler(seed=_derived(seed, number, 0)), ())


def bayesian(
    space: Space,
    direction: Direction,
    seed: int,
    number: int,
    known: Sequence[Known],
) -> dict[str, Value]:
    """The point a tree-structured Parzen estimator gives this trial.

    A running trial counts as a bad one (Optuna's constant liar), so that parallel trials do not
    crowd one place. Instead of a point that was tried before a random one that was not is given,
    if there is one.

    Args:
        space: the ranges.
        direction: which way the objective is better.
        seed: the tuning job's.
        number: the trial's.
        known: earlier trials, a warm start's parents first.
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
    """The trials of one tuning job, objectives as distances from their mean.

    Results on other data lie elsewhere: `TransferLearning` compares each trial with its own job's,
    in standard deviations.
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
    """A hyperparameter as Optuna searches it: reverse logarithmic is the logarithm of 1 - x."""
    if isinstance(each, Continuous) and each.scale == "ReverseLogarithmic":
        return min(max(1 - float(value), 1 - each.high), 1 - each.low)
    return value


def _outward(each: Range, value: Value) -> Value:
    """What Optuna found as a hyperparameter; rounding never leaves the range."""
    if not isinstance(each, Continuous):
        return value
    number = 1 - float(value) if each.scale == "ReverseLogarithmic" else float(value)
    return min(max(number, each.low), each.high)

"""A recommendation: a hyperparameter, its new value, and the gain to expect."""

from dataclasses import dataclass
from typing import Any, Literal

from container.monitoring.profiler.units import factor, percent

Kind = Literal["speed", "learning", "price"]
"""speed: costs nothing else; learning: the debugger's; price: it has one besides time."""

WORTHWHILE = 1.03
"""Nothing that speeds a job up by less is recommended: repeated runs differ by as much."""


@dataclass(frozen=True)
class Recommendation:
    """A change, and the gain to expect from it.

    Attributes:
        hyperparameter: the one to change, or berth's option `instance_type`.
        current: its value now; None where the recording does not say.
        to: the value to try.
        why: the job's own figures that speak for it, in a sentence.
        expected_gain: what it is worth, in words.
        factor: how many times faster training steps or the job become at best; None where the
            gain is not one of time.
        formula: the arithmetic behind `factor`, with the job's figures put in.
        kind: what sort of advice it is.
        rules: names of the rules that found the same.
        also: another hyperparameter that should go with it, as `name=value`.
    """

    hyperparameter: str
    current: Any
    to: Any
    why: str
    expected_gain: str
    factor: float | None = None
    formula: str = ""
    kind: Kind = "speed"
    rules: tuple[str, ...] = ()
    also: str = ""

    def as_json(self) -> dict[str, Any]:
        """The attributes by name; `current` is called `from`."""
        return {"from" if name == "current" else name: each for name, each in vars(self).items()}


def less(share: float) -> float:
    """The speed-up from removing a share of the time: 1 / (1 − share).

    Amdahl's law for a part that disappears; the share is limited to 99 %.
    """
    return 1 / (1 - min(max(share, 0.0), 0.99))


def steps_faster(gain: float, training_share: float | None) -> str:
    """The gain of the steps in words, and of the whole job where the steps are part of it.

    With training steps a share `s` of the job, steps `g` times faster make the job
    1 / (1 − s·(1 − 1/g)) times faster.
    """
    words = f"steps up to {factor(gain)} as fast"
    if training_share is None or training_share > 0.97:
        return words
    return f"{words}, the whole job {factor(less(training_share * (1 - 1 / gain)))}"


def job_faster(share: float) -> str:
    """The gain from removing a share of the job's time, in words."""
    return f"the whole job up to {factor(less(share))} as fast ({percent(share)} of its time)"

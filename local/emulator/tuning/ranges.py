"""A tuning job's ranges: parsing of the request, and formatting of values as in SageMaker."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

AUTO_LOGARITHMIC = 100.0
"""`Auto` is a logarithmic scale if max/min is at least this.

The developer guide (Define Hyperparameter Ranges) recommends a logarithmic scale for ranges that
span several orders of magnitude, which are two or more here.
"""

Value = int | float | str
Scale = Literal["Linear", "Logarithmic", "ReverseLogarithmic"]


@dataclass(frozen=True)
class Integer:
    """Integers from `low` to `high`, inclusive."""

    name: str
    low: int
    high: int
    scale: Scale

    def text(self, value: Value) -> str:
        """Format a value."""
        return str(int(value))

    def read(self, text: str) -> Value | None:
        """Parse a value; None if it is not in the range."""
        try:
            value = int(text.strip('"'))
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None


@dataclass(frozen=True)
class Continuous:
    """Numbers from `low` to `high`, inclusive."""

    name: str
    low: float
    high: float
    scale: Scale

    def text(self, value: Value) -> str:
        """Format a value as the shortest decimal that is exactly this number."""
        return repr(float(value))

    def read(self, text: str) -> Value | None:
        """Parse a value; None if it is not in the range."""
        try:
            value = float(text.strip('"'))
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None


@dataclass(frozen=True)
class Categorical:
    """A set of strings, which are used exactly as in the request."""

    name: str
    values: tuple[str, ...]

    def text(self, value: Value) -> str:
        """Format a value."""
        return str(value)

    def read(self, text: str) -> Value | None:
        """Parse a value; None if it is not in the range."""
        return text if text in self.values else None


Range = Integer | Continuous | Categorical


@dataclass(frozen=True)
class Space:
    """All ranges of a tuning job, in a fixed order: integers, continuous, categorical."""

    ranges: tuple[Range, ...]

    def texts(self, values: Mapping[str, Value]) -> dict[str, str]:
        """Format a point as hyperparameters."""
        return {each.name: each.text(values[each.name]) for each in self.ranges}

    def read(self, hyperparameters: Mapping[str, str]) -> dict[str, Value] | None:
        """Parse a point; None if a value is not in its range."""
        values = {each.name: each.read(hyperparameters.get(each.name, "")) for each in self.ranges}
        point = {name: value for name, value in values.items() if value is not None}
        return point if len(point) == len(values) else None

    @property
    def combinations(self) -> int | None:
        """The number of points; None if a range is continuous."""
        sizes = []
        for each in self.ranges:
            match each:
                case Integer():
                    sizes.append(each.high - each.low + 1)
                case Categorical():
                    sizes.append(len(each.values))
                case Continuous():
                    return None
        return math.prod(sizes)


def parse(ranges: Mapping[str, Any]) -> Space:
    """Parse validated `ParameterRanges`."""
    parsed: list[Range] = []
    for each in ranges.get("IntegerParameterRanges", []):
        low, high = int(each["MinValue"]), int(each["MaxValue"])
        parsed.append(Integer(each["Name"], low, high, _scale(each, low, high)))
    for each in ranges.get("ContinuousParameterRanges", []):
        least, most = float(each["MinValue"]), float(each["MaxValue"])
        parsed.append(Continuous(each["Name"], least, most, _scale(each, least, most)))
    parsed += [
        Categorical(each["Name"], tuple(each["Values"]))
        for each in ranges.get("CategoricalParameterRanges", [])
    ]
    return Space(tuple(parsed))


def _scale(each: Mapping[str, str], low: float, high: float) -> Scale:
    """The scale of a range, with `Auto` resolved."""
    match each.get("ScalingType", "Auto"):
        case "Logarithmic":
            return "Logarithmic"
        case "ReverseLogarithmic":
            return "ReverseLogarithmic"
        case "Auto" if low > 0 and high / low >= AUTO_LOGARITHMIC:
            return "Logarithmic"
        case _:
            return "Linear"

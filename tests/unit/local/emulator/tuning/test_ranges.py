import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.emulator.tuning.ranges import Categorical, Continuous, Integer, parse
from local.emulator.tuning.search import randomly

LOGARITHMIC = st.tuples(st.floats(1e-12, 1e3), st.floats(1e-12, 1e3)).map(sorted)
LINEAR = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted)
REVERSE = st.tuples(st.floats(0, 0.999999), st.floats(0, 0.999999)).map(sorted)
WHOLE = st.tuples(st.integers(-1000, 10**6), st.integers(-1000, 10**6)).map(sorted)
COUNTS = st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(sorted)


def one(kind: str, low: Any, high: Any, scale: str | None) -> dict[str, Any]:
    entry = {"Name": "x", "MinValue": str(low), "MaxValue": str(high)}
    if scale is not None:
        entry["ScalingType"] = scale
    return {f"{kind}ParameterRanges": [entry]}


@pytest.mark.parametrize(
    ("scale", "bounds"),
    [
        ("Linear", LINEAR),
        ("Auto", LINEAR),
        (None, LOGARITHMIC),
        ("Logarithmic", LOGARITHMIC),
        ("ReverseLogarithmic", REVERSE),
    ],
)
def test_a_continuous_value_stays_in_its_range_and_round_trips(
    scale: str | None, bounds: st.SearchStrategy[list[float]]
) -> None:
    @settings(deadline=None)
    @given(bounds, st.integers(0, 2**32))
    def holds(ends: list[float], seed: int) -> None:
        low, high = ends
        space = parse(one("Continuous", low, high, scale))
        values = randomly(space, seed, 3)
        text = space.texts(values)["x"]
        assert low <= float(text) <= high
        assert json.loads(text) == float(text) == values["x"]
        assert space.read({"x": text}) == values

    holds()


@pytest.mark.parametrize(("scale", "bounds"), [("Linear", WHOLE), ("Logarithmic", COUNTS)])
def test_an_integer_stays_in_its_range_and_round_trips(
    scale: str, bounds: st.SearchStrategy[list[int]]
) -> None:
    @settings(deadline=None)
    @given(bounds, st.integers(0, 2**32))
    def holds(ends: list[int], seed: int) -> None:
        low, high = ends
        space = parse(one("Integer", low, high, scale))
        values = randomly(space, seed, 0)
        text = space.texts(values)["x"]
        assert text.lstrip("-").isdigit()
        assert low <= int(text) <= high
        assert space.read({"x": text}) == values

    holds()


def test_categorical_values_are_passed_unchanged() -> None:
    """SDK v3 writes JSON into the values, so the quotes belong to them."""
    values = ['"adam"', "32", "true", ""]
    space = parse({"CategoricalParameterRanges": [{"Name": "x", "Values": values}]})
    seen = {space.texts(randomly(space, 1, number))["x"] for number in range(60)}
    assert seen == set(values)


@pytest.mark.parametrize(
    ("kind", "low", "high", "scale", "expected"),
    [
        ("Continuous", "0.001", "0.1", "Auto", "Logarithmic"),
        ("Continuous", "0.1", "1", "Auto", "Linear"),
        ("Continuous", "0", "1", "Auto", "Linear"),
        ("Continuous", "-1", "1000", "Auto", "Linear"),
        ("Continuous", "0.001", "0.1", "Linear", "Linear"),
        ("Continuous", "0.5", "0.999", "ReverseLogarithmic", "ReverseLogarithmic"),
        ("Integer", "1", "512", None, "Logarithmic"),
        ("Integer", "2", "4", None, "Linear"),
        ("Integer", "2", "4", "Logarithmic", "Logarithmic"),
    ],
)
def test_auto_scaling_is_logarithmic_above_two_orders_of_magnitude(
    kind: str, low: str, high: str, scale: str | None, expected: str
) -> None:
    (found,) = parse(one(kind, low, high, scale)).ranges
    assert not isinstance(found, Categorical)
    assert found.scale == expected


def test_scaling_types_distribute_values() -> None:
    """Half of all values lie below the scale's own middle."""

    def share_below(
        middle: float, low: str, high: str, scale: str, kind: str = "Continuous"
    ) -> float:
        space = parse(one(kind, low, high, scale))
        values = [float(space.texts(randomly(space, 5, n))["x"]) for n in range(300)]
        return sum(value < middle for value in values) / len(values)

    assert 0.4 < share_below(0.5, "0", "1", "Linear") < 0.6
    assert 0.4 < share_below(0.01, "0.0001", "1", "Logarithmic") < 0.6
    assert 0.4 < share_below(500, "1", "1000", "Linear", "Integer") < 0.6
    assert 0.4 < share_below(32, "1", "1000", "Logarithmic", "Integer") < 0.6
    middle = 1 - math.sqrt(0.5 * 0.0005)
    assert 0.4 < share_below(middle, "0.5", "0.9995", "ReverseLogarithmic") < 0.6


def test_read_recognises_values_outside_a_range() -> None:
    space = parse(
        {
            "IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "4"}],
            "ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}],
            "CategoricalParameterRanges": [{"Name": "c", "Values": ["a", "b"]}],
        }
    )
    good = {"n": "2", "x": "0.5", "c": "a", "other": "1"}
    assert space.read(good) == {"n": 2, "x": 0.5, "c": "a"}
    assert space.read({**good, "n": '"3"'}) == {"n": 3, "x": 0.5, "c": "a"}
    for wrong in ({"n": "5"}, {"n": "2.5"}, {"x": "1.01"}, {"x": "one"}, {"c": "d"}):
        assert space.read({**good, **wrong}) is None
    assert space.read({"n": "2", "x": "0.5"}) is None


def test_combinations() -> None:
    whole = Integer("n", 2, 4, "Linear")
    names = Categorical("c", ("a", "b"))
    space = parse({})
    assert space.ranges == ()
    assert type(space)((whole, names)).combinations == 6
    assert type(space)((whole, Continuous("x", 0, 1, "Linear"))).combinations is None

"""Validation of a tuning job's ranges."""

import math
from typing import Any

from local.emulator.api.validation.fields import check_unique, unsupported
from local.emulator.errors import invalid

MAX_RANGES = 30
"""Most hyperparameters with a range, of all kinds (API reference)."""

NUMBERS = {"IntegerParameterRanges": int, "ContinuousParameterRanges": float}


def tuned_names(ranges: dict[str, Any]) -> set[str]:
    """The names of the hyperparameters in the ranges."""
    return {entry["Name"] for entries in _kinds(ranges).values() for entry in entries}


def combinations(ranges: dict[str, Any]) -> int:
    """The number of combinations of the categorical ranges."""
    return math.prod(
        len(set(entry["Values"])) for entry in _kinds(ranges)["CategoricalParameterRanges"]
    )


def check_ranges(ranges: dict[str, Any], strategy: str, field: str) -> None:
    """Check that the ranges are valid for their scaling types and the strategy.

    Args:
        ranges: the `ParameterRanges`.
        strategy: the search strategy.
        field: the ranges' path in the request, for messages.

    Raises:
        ServiceError: they are not.
    """
    kinds = _kinds(ranges)
    if ranges.get("AutoParameters"):
        raise unsupported(
            f"{field}.AutoParameters", f"give each hyperparameter its range in {field}"
        )
    entries = [entry["Name"] for found in kinds.values() for entry in found]
    if not 1 <= len(entries) <= MAX_RANGES:
        raise invalid(
            f"{field} has {len(entries)} hyperparameters; expected 1 to {MAX_RANGES} over all "
            "kinds of ranges."
        )
    check_unique(field, entries)
    for kind in NUMBERS:
        for entry in kinds[kind]:
            _check_numbers(field, kind, entry)
    for entry in kinds["CategoricalParameterRanges"]:
        check_unique(f"{field}.CategoricalParameterRanges '{entry['Name']}'", entry["Values"])
    if strategy == "Grid" and (wrong := [kind for kind in NUMBERS if kinds[kind]]):
        raise invalid(
            f"{field}.{wrong[0]} was given with the Strategy Grid; expected only "
            "CategoricalParameterRanges."
        )


def _kinds(ranges: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {kind: ranges.get(kind, []) for kind in (*NUMBERS, "CategoricalParameterRanges")}


def _check_numbers(where: str, kind: str, entry: dict[str, str]) -> None:
    field, number = f"{where}.{kind} '{entry['Name']}'", NUMBERS[kind]
    ends = []
    for member in ("MinValue", "MaxValue"):
        try:
            value = number(entry[member])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            what = "a whole number" if number is int else "a number"
            raise invalid(f"{field}: {member} is '{entry[member]}'; expected {what}.")
        ends.append(value)
    low, high = ends
    if low >= high:
        raise invalid(
            f"{field}: MinValue {entry['MinValue']} is not below MaxValue {entry['MaxValue']}."
        )
    scale = entry.get("ScalingType", "Auto")
    if scale == "Logarithmic" and low <= 0:
        raise invalid(
            f"{field}: ScalingType Logarithmic with MinValue {entry['MinValue']}; expected above 0."
        )
    if scale == "ReverseLogarithmic" and number is int:
        raise invalid(
            f"{field}: ScalingType is ReverseLogarithmic; expected Auto, Linear or Logarithmic for "
            "whole numbers."
        )
    if scale == "ReverseLogarithmic" and not (low >= 0 and high < 1):
        raise invalid(
            f"{field}: ScalingType ReverseLogarithmic with {entry['MinValue']} to "
            f"{entry['MaxValue']}; expected a range within 0 <= x < 1."
        )

"""Metric filters: applies metric transformations to matching log events.

User guide, "Creating metrics from log events using filters".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from local.emulator.aws.logs.filters.fields import field_names, field_values
from local.emulator.aws.logs.filters.json_objects import is_selector, json_values
from local.emulator.aws.logs.filters.pattern import compile_pattern
from local.emulator.aws.logs.metrics.embedded import units
from local.emulator.errors import ServiceError
from local.emulator.ports import Point

MOST_DIMENSIONS = 3
"""Most dimensions of a transformation (API reference, MetricTransformation)."""

Transformation = Mapping[str, Any]


def check_transformations(pattern: str, transformations: Sequence[Transformation]) -> None:
    """Check the transformations of a metric filter, whose pattern is valid.

    Raises:
        ServiceError: `InvalidParameterException`, with what was found and expected.
    """
    if len(transformations) != 1:
        raise _invalid(f"metricTransformations: found {len(transformations)}, expected one")
    [one] = transformations
    for name in ("metricName", "metricNamespace", "metricValue"):
        if not one.get(name):
            raise _invalid(f"metricTransformations: {name} is missing")
    if one.get("unit", "None") not in units():
        raise _invalid(f"unit: found {one['unit']}, expected one of CloudWatch's")
    value = str(one["metricValue"])
    if value.startswith("$"):
        _check_selector(pattern, value, "metricValue")
    elif _number(value) is None:
        raise _invalid(f"metricValue: found {value[:80]}, expected a number, $.property or $field")
    dimensions = one.get("dimensions") or {}
    if len(dimensions) > MOST_DIMENSIONS:
        raise _invalid(f"dimensions: found {len(dimensions)}, expected at most {MOST_DIMENSIONS}")
    if dimensions and one.get("defaultValue") is not None:
        raise _invalid("defaultValue and dimensions: expected one of the two")
    for selector in dimensions.values():
        _check_selector(pattern, selector, "dimensions")


def metric_of(pattern: str, transformation: Transformation, message: str) -> Point | None:
    """The point for a message that matches; None if it lacks the value or a dimension.

    Raises:
        ServiceError: the pattern took too long, or is invalid.
    """
    value: object = transformation["metricValue"]
    if str(value).startswith("$"):
        value = _selected(pattern, str(value), message)
    number = None if isinstance(value, bool) else _number(value)
    if number is None:
        return None
    found = {
        name: _selected(pattern, selector, message)
        for name, selector in (transformation.get("dimensions") or {}).items()
    }
    if None in found.values() or "" in found.values():
        return None
    dimensions = [{"Name": name, "Value": _text(value)} for name, value in found.items()]
    return _point(transformation, number, dimensions)


def default_of(transformation: Transformation) -> Point | None:
    """The point to publish if log events arrive but none match; None without a default value."""
    value = transformation.get("defaultValue")
    return None if value is None else _point(transformation, float(value), [])


def matches(pattern: str, message: str) -> bool:
    """Whether the pattern matches a message."""
    return compile_pattern(pattern)(message)


def _point(transformation: Transformation, value: float, dimensions: list[dict[str, str]]) -> Point:
    name, unit = transformation["metricName"], transformation.get("unit", "None")
    return {"MetricName": name, "Value": value, "Unit": unit, "Dimensions": dimensions}


def _check_selector(pattern: str, selector: str, member: str) -> None:
    text = pattern.strip()
    if text.startswith("{") and is_selector(selector):
        return
    if text.startswith("[") and selector.removeprefix("$") in field_names(text):
        return
    raise _invalid(
        f"{member}: found {selector[:80]}, expected $.property with a JSON pattern, or $field with "
        "a pattern that names the field, as [ip, bytes]"
    )


def _selected(pattern: str, selector: str, message: str) -> Any:
    if selector.startswith(("$.", "$[")):
        return next(iter(json_values(selector, message)), None)
    return field_values(pattern.strip(), message).get(selector.removeprefix("$"))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)

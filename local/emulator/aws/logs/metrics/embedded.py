"""Metrics in log events: CloudWatch's embedded metric format (EMF).

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import math
import time
from functools import cache
from typing import Any

from local.emulator.ports import Point
from local.emulator.shapes.service_model import service_model

MARK = '"_aws"'
"""A text that every document of this format contains."""
MOST_DIMENSIONS, MOST_METRICS, MOST_VALUES = 30, 100, 100
"""Most dimensions of a set, metrics of a directive and values of a metric (the specification)."""
OLDEST, NEWEST = 14 * 24 * 3600, 2 * 3600
"""Limits of a document's timestamp, in seconds before and after now (the specification)."""
RESOLUTIONS = (1, 60)


class DocumentError(ValueError):
    """A document is invalid; the message is one line.

    Attributes:
        metric: the metric in the namespace AWS/Logs that counts it.
    """

    def __init__(self, reason: str, metric: str = "EMFValidationErrors") -> None:
        super().__init__(f"embedded metric format: {reason}")
        self.metric = metric


def embedded_metrics(message: str) -> list[tuple[str, list[Point]]]:
    """The namespaces and points in a log event; none if it is not a document of this format.

    Raises:
        DocumentError: the document violates the specification.
    """
    if MARK not in message:
        return []
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        if "CloudWatchMetrics" not in message:
            return []
        raise DocumentError("found no JSON, expected an object", "EMFParsingErrors") from None
    head = document.get("_aws") if isinstance(document, dict) else None
    if not isinstance(head, dict) or "CloudWatchMetrics" not in head:
        return []
    when = _time(head.get("Timestamp"))
    directives = _list(head["CloudWatchMetrics"], "_aws.CloudWatchMetrics")
    return [_points(directive, document, when) for directive in directives]


def _points(directive: Any, document: dict[str, Any], when: float) -> tuple[str, list[Point]]:
    if not isinstance(directive, dict):
        raise DocumentError(f"CloudWatchMetrics: found {_shown(directive)}, expected objects")
    namespace = directive.get("Namespace")
    if not isinstance(namespace, str) or not 1 <= len(namespace) <= 255:
        raise DocumentError(f"Namespace: found {_shown(namespace)}, expected 1 to 255 characters")
    sets = [
        [_dimension(name, document) for name in _list(names, "Dimensions", MOST_DIMENSIONS)]
        for names in _list(directive.get("Dimensions", [[]]), "Dimensions")
    ]
    points = []
    for metric in _list(directive.get("Metrics"), "Metrics", MOST_METRICS):
        point = _metric(metric, document)
        if point is not None:
            points += [point | {"Timestamp": when, "Dimensions": each} for each in sets]
    return namespace, points


def _metric(metric: Any, document: dict[str, Any]) -> Point | None:
    """A metric's point; None if the document has no value for it."""
    name = metric.get("Name") if isinstance(metric, dict) else None
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        raise DocumentError(f"Metrics: found {_shown(metric)}, expected objects with a Name")
    unit, resolution = metric.get("Unit", "None"), metric.get("StorageResolution", 60)
    if unit not in units():
        raise DocumentError(f"{name}: Unit is {_shown(unit)}, expected one of CloudWatch's")
    if resolution not in RESOLUTIONS:
        raise DocumentError(f"{name}: StorageResolution is {_shown(resolution)}, expected 1 or 60")
    value = document.get(name)
    if value is None or value == []:
        return None
    values = value if isinstance(value, list) else [value]
    if len(values) > MOST_VALUES:
        raise DocumentError(f"{name}: found {len(values)} values, expected at most {MOST_VALUES}")
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float) or not _is_finite(each):
            raise DocumentError(f"{name}: found {_shown(each)}, expected numbers")
    found: Point = {"MetricName": name, "Unit": unit}
    return found | ({"Value": values[0]} if len(values) == 1 else {"Values": values})


def _dimension(name: Any, document: dict[str, Any]) -> dict[str, str]:
    value = document.get(name) if isinstance(name, str) else None
    if not isinstance(value, str) or not 1 <= len(value) <= 1024:
        raise DocumentError(
            f"dimension {_shown(name)}: found {_shown(value)}, expected a text of 1 to 1024 "
            "characters beside _aws"
        )
    return {"Name": name, "Value": value}


def _time(milliseconds: Any) -> float:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int):
        raise DocumentError(f"Timestamp: found {_shown(milliseconds)}, expected milliseconds")
    when, now = milliseconds / 1000, time.time()
    if not now - OLDEST <= when <= now + NEWEST:
        raise DocumentError(
            f"Timestamp: found {milliseconds}, expected one of the last 14 days or the next 2 hours"
        )
    return when


def _list(value: Any, name: str, most: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (most is not None and len(value) > most):
        limit = "" if most is None else f" of at most {most}"
        raise DocumentError(f"{name}: found {_shown(value)}, expected a list{limit}")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: object) -> str:
    return json.dumps(value)[:80]


@cache
def units() -> frozenset[str]:
    """CloudWatch's units, from botocore's model of PutMetricData."""
    return frozenset(service_model("cloudwatch").shape_for("StandardUnit").enum)

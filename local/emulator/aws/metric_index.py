"""The index of known metrics, for CloudWatch's ListMetrics.

moto's own ListMetrics returns a metric with several dimensions once per point, and compares all
pairs of points.
"""

import base64
import json
import time
from typing import Any

from local.emulator.credentials import ACCOUNT
from local.emulator.errors import ServiceError
from local.emulator.ports import Point

PAGE = 500
"""Most metrics in a response (API reference, ListMetrics)."""
RECENT = 3 * 3600
"""`RecentlyActive` PT3H, in seconds."""

Metric = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name, and sorted (name, value) dimensions."""


class MetricIndex:
    """The metrics of every region, and the time of each one's last point. Not thread-safe."""

    def __init__(self) -> None:
        self._regions: dict[str, dict[Metric, float]] = {}

    def add(self, region: str, namespace: str, points: list[Point]) -> None:
        """Add points, whose `Timestamp` is UTC seconds."""
        known = self._regions.setdefault(region, {})
        for point in points:
            dimensions = ((one["Name"], one["Value"]) for one in point.get("Dimensions") or ())
            metric = (namespace, point["MetricName"], tuple(sorted(dimensions)))
            known[metric] = max(known.get(metric, 0.0), point["Timestamp"])

    def answer(self, region: str, members: dict[str, Any]) -> dict[str, Any]:
        """Answer a ListMetrics request.

        Raises:
            ServiceError: `NextToken` is invalid, or `RecentlyActive` is not PT3H.
        """
        recently = members.get("RecentlyActive")
        if recently not in (None, "PT3H"):
            raise _invalid(f"RecentlyActive: found {str(recently)[:40]!r}, expected PT3H")
        oldest = time.time() - RECENT if recently else 0.0
        known = self._regions.get(region, {})
        owner = members.get("OwningAccount", ACCOUNT)
        found = sorted(
            metric
            for metric, last in known.items()
            if last >= oldest and owner == ACCOUNT and _is_wanted(metric, members)
        )
        if token := members.get("NextToken"):
            place = _read(token)
            found = [metric for metric in found if metric > place]
        answer: dict[str, Any] = {"Metrics": [_described(metric) for metric in found[:PAGE]]}
        if len(found) > PAGE:
            text = json.dumps(found[PAGE - 1]).encode()
            answer["NextToken"] = base64.urlsafe_b64encode(text).decode()
        return answer


def _is_wanted(metric: Metric, members: dict[str, Any]) -> bool:
    namespace, name, dimensions = metric
    if members.get("Namespace", namespace) != namespace or members.get("MetricName", name) != name:
        return False
    has = dict(dimensions)
    return all(
        wanted.get("Name") in has
        and wanted.get("Value", has[wanted["Name"]]) == has[wanted["Name"]]
        for wanted in members.get("Dimensions") or ()
    )


def _described(metric: Metric) -> dict[str, Any]:
    namespace, name, dimensions = metric
    named = [{"Name": one, "Value": value} for one, value in dimensions]
    return {"Namespace": namespace, "MetricName": name, "Dimensions": named}


def _read(token: str) -> Metric:
    try:
        namespace, name, dimensions = json.loads(base64.urlsafe_b64decode(str(token).encode()))
        return str(namespace), str(name), tuple((str(key), str(value)) for key, value in dimensions)
    except (ValueError, TypeError):
        raise _invalid("Request parameter NextToken is invalid") from None


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValue", message)

"""A strict reader of documents in CloudWatch's embedded metric format.

The limits are those of the specification and its JSON schema:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

DOCKER_LINE = 16 * 1024
"""Bytes; Docker's log drivers split longer lines."""

_CLOUDWATCH = botocore.session.get_session().get_service_model("cloudwatch")
UNITS = _CLOUDWATCH.shape_for("StandardUnit").enum


@dataclass
class Document:
    """One document in the embedded metric format.

    Attributes:
        timestamp: ms since 1970.
        values: all values of each metric.
    """

    timestamp: int
    namespace: str
    dimensions: dict[str, str]
    values: dict[str, list[float]]


def read_document(line: str) -> Document:
    """Parse the document in a line of a log.

    Raises:
        AssertionError: the document violates the specification.
    """
    assert len(line.encode()) <= DOCKER_LINE
    root = json.loads(line)
    head = root["_aws"]
    assert set(head) == {"Timestamp", "CloudWatchMetrics"}
    timestamp = head["Timestamp"]
    assert type(timestamp) is int
    assert 1e12 < timestamp < 1e13, "milliseconds"
    (directive,) = head["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    namespace = directive["Namespace"]
    assert re.fullmatch(r".{1,1024}", namespace)
    assert len(directive["Dimensions"]) >= 1
    for dimension_set in directive["Dimensions"]:
        assert len(dimension_set) <= 30
        for name in dimension_set:
            assert re.fullmatch(r".{1,250}", name)
            assert type(root[name]) is str
            assert 1 <= len(root[name]) <= 1024
    (names,) = directive["Dimensions"]
    metrics = directive["Metrics"]
    assert 1 <= len(metrics) <= 100
    values = {}
    for metric in metrics:
        assert set(metric) <= {"Name", "Unit", "StorageResolution"}
        assert re.fullmatch(r".{1,1024}", metric["Name"])
        assert metric["Unit"] in UNITS
        found = root[metric["Name"]]
        numbers = found if isinstance(found, list) else [found]
        assert 1 <= len(numbers) <= 100
        assert all(type(number) in (int, float) for number in numbers)
        values[metric["Name"]] = [float(number) for number in numbers]
    assert len(values) == len(metrics), "each metric once"
    assert set(root) == {"_aws", *names, *values}
    document = Document(timestamp, namespace, {name: root[name] for name in names}, values)
    _check_datums(document, metrics)
    return document


def _check_datums(document: Document, metrics: Iterable[dict[str, Any]]) -> None:
    """Check that PutMetricData would accept the document's metrics."""
    dimensions = [{"Name": name, "Value": value} for name, value in document.dimensions.items()]
    request = {
        "Namespace": document.namespace,
        "MetricData": [
            {
                "MetricName": metric["Name"],
                "Unit": metric["Unit"],
                "Dimensions": dimensions,
                "Timestamp": document.timestamp / 1000,
                "Values": document.values[metric["Name"]],
            }
            for metric in metrics
        ],
    }
    shape = _CLOUDWATCH.operation_model("PutMetricData").input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()


def documents(log: str) -> list[Document]:
    """All embedded metric documents in a log."""
    return [read_document(line) for line in log.splitlines() if '"_aws"' in line]


def total(found: Iterable[Document], name: str) -> float:
    """The metric's sum, as CloudWatch would show it."""
    return sum(sum(document.values.get(name, ())) for document in found)

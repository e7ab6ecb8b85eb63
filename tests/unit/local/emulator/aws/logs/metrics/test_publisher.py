"""Metrics that CloudWatch extracts from log events: embedded metric format and metric filters."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from local.emulator.aws.logs.metrics.publisher import LogMetrics
from local.emulator.aws.logs.store import LogStore
from local.emulator.ports import Point
from local.emulator.server import Server
from serve.embedded_metrics import EmbeddedMetrics
from serve.records import InvocationRecord
from tests.unit.local.emulator.server_harness import Signed, client

GROUP = "/aws/sagemaker/Endpoints/flowers"
REGION = "us-east-1"


class Published:
    """Collects published metrics by namespace and name, with a clock that a test advances."""

    def __init__(self, folder: Path) -> None:
        self.points: list[tuple[str, Point]] = []
        self.now = time.time() // 60 * 60 + 1
        self.store = LogStore(folder)
        self.store.create_group(REGION, GROUP, {})
        self.metrics = LogMetrics(self.store, self.put, lambda: self.now)

    def put(self, region: str, namespace: str, points: list[Point]) -> None:
        assert region == REGION
        self.points += [(namespace, point) for point in points]

    def observe(self, *messages: str) -> None:
        now = int(self.now * 1000)
        self.metrics.observe(REGION, GROUP, [(now, message) for message in messages])

    def filter(self, pattern: str, **transformation: Any) -> None:
        one = {"metricName": "found", "metricNamespace": "mine", **transformation}
        added = {"filterName": "f", "filterPattern": pattern, "metricTransformations": [one]}
        self.store.change_settings(REGION, GROUP, {"metricFilters": {"f": added}})

    def take(self) -> list[tuple[str, Point]]:
        self.metrics.flush()
        found, self.points = self.points, []
        return found


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    made = Published(tmp_path)
    yield made
    made.metrics.close()


def document(**changed: Any) -> dict[str, Any]:
    directive = {
        "Namespace": "Flowers",
        "Dimensions": [["EndpointName"], []],
        "Metrics": [{"Name": "Latency", "Unit": "Milliseconds"}, {"Name": "Absent"}],
    }
    head = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive | changed]}
    return {"_aws": head, "EndpointName": "flowers", "Latency": [1.5, 2, 2]}


def test_a_document_becomes_points_for_each_set_of_dimensions(published: Published) -> None:
    published.observe("loading", json.dumps(document()), '{"_aws": 1}', '{"note": "_aws"}')
    found = published.take()
    assert [namespace for namespace, _ in found] == ["Flowers", "Flowers"]
    named = [{"Name": "EndpointName", "Value": "flowers"}]
    assert [point["Dimensions"] for _, point in found] == [named, []]
    for _, point in found:
        assert (point["MetricName"], point["Unit"]) == ("Latency", "Milliseconds")
        assert point["Values"] == [1.5, 2, 2]
        assert abs(point["Timestamp"] - time.time()) < 60


@pytest.mark.parametrize(
    "changed",
    [
        {"Namespace": ""},
        {"Dimensions": [["Stranger"]]},
        {"Dimensions": "EndpointName"},
        {"Dimensions": [["Latency"]]},
        {"Dimensions": [["EndpointName"] * 31]},
        {"Metrics": None},
        {"Metrics": ["Latency"]},
        {"Metrics": [{"Name": "Latency", "Unit": "Parsec"}]},
        {"Metrics": [{"Name": "EndpointName"}]},
        {"Metrics": [{"Name": "Latency", "StorageResolution": 7}]},
        {"Metrics": [{"Name": "Latency"}] * 101},
    ],
)
def test_a_document_that_breaks_the_specification_is_a_validation_error(
    published: Published, changed: dict[str, Any]
) -> None:
    published.observe(json.dumps(document(**changed)))
    [(namespace, point)] = published.take()
    assert (namespace, point["MetricName"], point["Value"]) == (
        "AWS/Logs",
        "EMFValidationErrors",
        1,
    )
    assert point["Dimensions"] == [{"Name": "LogGroupName", "Value": GROUP}]


@pytest.mark.parametrize("when", [None, "now", True, 0, 10**15])
def test_an_invalid_or_distant_timestamp_is_a_validation_error(
    published: Published, when: object
) -> None:
    text = document()
    text["_aws"]["Timestamp"] = when
    published.observe(json.dumps(text))
    [(_, point)] = published.take()
    assert point["MetricName"] == "EMFValidationErrors"


@pytest.mark.parametrize(
    "value", ["many", True, [1, None], [[1]], [1.0] * 101, 10**400, float("nan"), {"a": 1}]
)
def test_a_value_that_is_not_a_number_is_a_validation_error(
    published: Published, value: object
) -> None:
    published.observe(json.dumps(document() | {"Latency": value}))
    [(_, point)] = published.take()
    assert point["MetricName"] == "EMFValidationErrors"


def test_a_truncated_document_is_a_parsing_error(published: Published) -> None:
    published.observe(json.dumps(document())[:-20], "[" * 100_000 + '"_aws"')
    [(_, point)] = published.take()
    assert point["MetricName"] == "EMFParsingErrors"


def test_cloudwatch_reads_the_servers_documents(server: Server) -> None:
    lines: list[bytes] = []
    embedded = EmbeddedMetrics("Flowers", {"EndpointName": "flowers"}, write=lines.append)
    for status, seconds in ((200, 0.1), (200, 0.3), (503, 0.2)):
        record = InvocationRecord(lambda *_: None)
        record.images = 2
        embedded.observe(record, status, seconds)
    embedded.stop()
    stream = server.services.logs.open(GROUP, "AllTraffic/i-1")
    for line in lines:
        stream.write(line.decode().strip())
    cloudwatch = client(server.url, "cloudwatch")
    latency = statistics(cloudwatch, "Flowers", "Latency", {"EndpointName": "flowers"})
    assert (latency["SampleCount"], latency["Maximum"]) == (3, 300)
    sums = {
        name: statistics(cloudwatch, "Flowers", name, {"EndpointName": "flowers"})["Sum"]
        for name in ("Invocations", "Invocation5XXErrors", "Images")
    }
    assert sums == {"Invocations": 3, "Invocation5XXErrors": 1, "Images": 4}


def test_events_of_any_client_become_metrics_of_their_region(server: Server) -> None:
    for region in (REGION, "eu-west-1"):
        logs = client(server.url, "logs", region)
        logs.create_log_group(logGroupName="mine")
        logs.create_log_stream(logGroupName="mine", logStreamName="one")
    now = int(time.time() * 1000)
    logs.put_log_events(
        logGroupName="mine",
        logStreamName="one",
        logEvents=[{"timestamp": now, "message": json.dumps(document())}],
    )
    there = client(server.url, "cloudwatch", "eu-west-1")
    assert statistics(there, "Flowers", "Latency", {"EndpointName": "flowers"})["Sum"] == 5.5
    assert client(server.url, "cloudwatch").list_metrics(Namespace="Flowers")["Metrics"] == []


def statistics(
    cloudwatch: Any, namespace: str, name: str, dimensions: dict[str, str]
) -> dict[str, Any]:
    """Wait for the metric and return its statistics."""
    now, deadline = datetime.now(UTC), time.monotonic() + 30
    while time.monotonic() < deadline:
        found: list[dict[str, Any]] = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=5),
            Period=3600 * 24,
            Statistics=["Sum", "SampleCount", "Maximum"],
        )["Datapoints"]
        if found:
            return found[0]
    raise AssertionError(f"{namespace} {name}: no points")


def test_metric_filters_count_and_read_values(published: Published) -> None:
    published.filter("ERROR", metricValue="2", unit="Count")
    published.observe("ERROR one", "fine", "ERROR two")
    values = [(namespace, point["Value"], point["Unit"]) for namespace, point in published.take()]
    assert values == [("mine", 2, "Count")] * 2

    published.filter('{ $.level = "warn" }', metricValue="$.seconds", dimensions={"L": "$.level"})
    published.observe(
        '{"level": "warn", "seconds": 1.5}',
        '{"level": "info", "seconds": 2.5}',
        '{"level": "warn"}',
        '{"level": "warn", "seconds": "slow"}',
    )
    [(_, point)] = published.take()
    assert (point["Value"], point["Dimensions"]) == (1.5, [{"Name": "L", "Value": "warn"}])

    published.filter("[ip, ..., status = 4*, bytes]", metricValue="$bytes")
    published.observe("127.0.0.1 - GET 404 1534", "127.0.0.1 - GET 200 7")
    assert [point["Value"] for _, point in published.take()] == [1534]


def test_a_default_is_published_for_minutes_in_which_nothing_matched(published: Published) -> None:
    published.filter("ERROR", metricValue="1", defaultValue=0)
    published.observe("fine")
    published.observe("fine")
    assert published.take() == []
    published.now += 60
    [(_, point)] = published.take()
    assert (point["Value"], point["Timestamp"]) == (0, published.now - 61)
    published.observe("fine")
    published.observe("ERROR")
    published.observe("fine")
    published.now += 60
    assert [point["Value"] for _, point in published.take()] == [1]
    published.now += 60
    assert published.take() == []


@pytest.mark.parametrize(
    ("pattern", "changed", "named"),
    [
        ("ERROR", {"metricValue": "many"}, "metricValue"),
        ("ERROR", {"metricValue": "nan"}, "metricValue"),
        ("ERROR", {"metricValue": "$.seconds"}, "metricValue"),
        ("[a, b]", {"metricValue": "$c"}, "metricValue"),
        ("{ $.a = 1 }", {"metricValue": "$a"}, "metricValue"),
        ("{ $.a = 1 }", {"dimensions": {"A": "a"}}, "dimensions"),
        ("{ $.a = 1 }", {"dimensions": {str(n): "$.a" for n in range(4)}}, "dimensions"),
        ("{ $.a = 1 }", {"dimensions": {"A": "$.a"}, "defaultValue": 0.0}, "defaultValue"),
        ("ERROR", {"unit": "Parsec"}, "unit"),
    ],
)
def test_invalid_metric_transformations_are_refused(
    server: Server, pattern: str, changed: dict[str, Any], named: str
) -> None:
    logs = client(server.url, "logs")
    logs.create_log_group(logGroupName="mine")
    one = {"metricName": "m", "metricNamespace": "n", "metricValue": "1", **changed}
    with pytest.raises(ClientError, match=named) as caught:
        logs.put_metric_filter(
            logGroupName="mine", filterName="f", filterPattern=pattern, metricTransformations=[one]
        )
    assert caught.value.response["Error"]["Code"] == "InvalidParameterException"


def test_unsupported_statistics_are_refused(server: Server) -> None:
    cloudwatch = client(server.url, "cloudwatch")
    now = datetime.now(UTC)
    span = {"StartTime": now - timedelta(hours=1), "EndTime": now}
    for wanted in ({"ExtendedStatistics": ["p99"]}, {"Statistics": ["Sum", "Median"]}):
        with pytest.raises(ClientError, match="not made by the local CloudWatch"):
            cloudwatch.get_metric_statistics(
                Namespace="n", MetricName="m", Period=60, **span, **wanted
            )
    metric = {"Metric": {"Namespace": "n", "MetricName": "m"}, "Period": 60}
    for stat in ("p99", "tm90", "Bogus"):
        query = {"Id": "a", "MetricStat": {**metric, "Stat": stat}}
        with pytest.raises(ClientError, match="not made by the local CloudWatch"):
            cloudwatch.get_metric_data(MetricDataQueries=[query], **span)
    query = {"Id": "a", "MetricStat": {**metric, "Stat": "Average"}}
    assert cloudwatch.get_metric_data(MetricDataQueries=[query], **span)["MetricDataResults"]


@pytest.mark.parametrize("protocol", ["json", "form"])
def test_unsupported_statistics_are_refused_in_other_protocols_too(
    server: Server, protocol: str
) -> None:
    form = {
        "Action": "GetMetricData",
        "Version": "2010-08-01",
        "StartTime": "2026-01-01T00:00:00Z",
        "EndTime": "2026-01-02T00:00:00Z",
        "MetricDataQueries.member.1.Id": "a",
        "MetricDataQueries.member.1.MetricStat.Metric.Namespace": "n",
        "MetricDataQueries.member.1.MetricStat.Metric.MetricName": "m",
        "MetricDataQueries.member.1.MetricStat.Period": "60",
        "MetricDataQueries.member.1.MetricStat.Stat": "p99",
    }
    stat = {"Metric": {"Namespace": "n", "MetricName": "m"}, "Period": 60, "Stat": "p99"}
    members = {
        "StartTime": 1796000000,
        "EndTime": 1796000600,
        "MetricDataQueries": [{"Id": "a", "MetricStat": stat}],
    }
    target = {
        "X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData",
        "Content-Type": "application/x-amz-json-1.0",
    }
    sent: dict[str, Any] = {"data": form}
    if protocol == "json":
        sent = {"data": json.dumps(members), "headers": target}
    answer = requests.post(server.url, auth=Signed(server.url, "monitoring"), timeout=60, **sent)
    assert answer.status_code == 400
    assert "not made by the local CloudWatch" in answer.text

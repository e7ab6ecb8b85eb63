"""CloudWatch's ListMetrics."""

import json
import time
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from botocore.exceptions import ClientError

from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import Signed, client, serve

NAMES = ("EndpointName", "VariantName")


def put(server: Server, *, endpoint: str = "one", number: int = 3, age: float = 0.0) -> None:
    """Put several points each of a metric with two dimensions and of one without."""
    when = time.time() - age
    metrics = server.services.logs
    values = [("Latency", float(value), when) for value in range(number)]
    metrics.put_metrics("Flowers", dict(zip(NAMES, (endpoint, "v"), strict=True)), values)
    metrics.put_metrics("Flowers", {}, [("Total", 1.0, when)] * number)


def named(**dimensions: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in dimensions.items()]


def test_a_metric_is_listed_once_and_after_a_restart(home: Home) -> None:
    with serve(home) as server:
        put(server)
        cloudwatch = client(server.url, "cloudwatch")
        found = cloudwatch.list_metrics()["Metrics"]
        dimensions = named(EndpointName="one", VariantName="v")
        assert found == [
            {"Namespace": "Flowers", "MetricName": "Latency", "Dimensions": dimensions},
            {"Namespace": "Flowers", "MetricName": "Total", "Dimensions": []},
        ]
        put(server, endpoint="two")
        assert len(cloudwatch.list_metrics()["Metrics"]) == 3
        assert client(server.url, "cloudwatch", "eu-west-1").list_metrics()["Metrics"] == []
    with serve(home) as server:
        assert len(client(server.url, "cloudwatch").list_metrics()["Metrics"]) == 3


def test_filters(server: Server) -> None:
    put(server)
    put(server, endpoint="two", age=4 * 3600)
    list_metrics = client(server.url, "cloudwatch").list_metrics

    def count(**members: Any) -> int:
        return len(list_metrics(**members)["Metrics"])

    assert count(Namespace="Flowers") == 3
    assert count(Namespace="Flower") == 0
    assert count(MetricName="Latency") == 2
    assert count(Dimensions=[{"Name": "EndpointName"}]) == 2
    assert count(Dimensions=named(EndpointName="two")) == 1
    assert count(Dimensions=named(EndpointName="two", VariantName="w")) == 0
    assert count(Dimensions=[{"Name": "Other"}]) == 0
    assert count(RecentlyActive="PT3H") == 2
    assert count(OwningAccount="999999999999") == 0
    with pytest.raises(ClientError, match="RecentlyActive"):
        list_metrics(RecentlyActive="PT1H")
    with pytest.raises(ClientError, match="NextToken"):
        list_metrics(NextToken="other")


def test_pages(server: Server) -> None:
    for number in range(501):
        server.services.logs.put_metrics("Many", {}, [(f"m{number}", 1.0, time.time())])
    pages = client(server.url, "cloudwatch").get_paginator("list_metrics").paginate()
    counts = [[one["MetricName"] for one in page["Metrics"]] for page in pages]
    assert [len(names) for names in counts] == [500, 1]
    assert len({name for names in counts for name in names}) == 501


def test_every_protocol(server: Server) -> None:
    put(server)
    sign = Signed(server.url, "monitoring")
    form = {"Action": "ListMetrics", "Version": "2010-08-01", "Dimensions.member.1.Name": NAMES[0]}
    answer = requests.post(server.url, data=form, auth=sign, timeout=60)
    namespace = {"c": "http://monitoring.amazonaws.com/doc/2010-08-01/"}
    root = ElementTree.fromstring(answer.text)  # noqa: S314 - the server's own
    found = root.findall("c:ListMetricsResult/c:Metrics/c:member/c:MetricName", namespace)
    assert [each.text for each in found] == ["Latency"]
    target = {
        "X-Amz-Target": "GraniteServiceVersion20100801.ListMetrics",
        "Content-Type": "application/x-amz-json-1.0",
    }
    body = json.dumps({"MetricName": "Total"})
    answer = requests.post(server.url, data=body, headers=target, auth=sign, timeout=60)
    assert [each["MetricName"] for each in answer.json()["Metrics"]] == ["Total"]

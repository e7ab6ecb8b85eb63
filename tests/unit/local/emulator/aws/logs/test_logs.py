import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from local.emulator.aws.logs import files as log_files
from local.emulator.home import Home
from local.emulator.hosting.metrics import UNITS, EndpointMetrics, Measurement
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import Signed, client, serve

GROUP = "/aws/sagemaker/TrainingJobs"
STREAM = "job/algo-1-1700000000"
DAY = 24 * 3600


def messages(logs: Any, stream: str = STREAM) -> list[str]:
    answer = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    return [event["message"] for event in answer["events"]]


def test_lines_are_available_at_once_and_after_a_restart(home: Home) -> None:
    with serve(home) as server:
        logs = client(server.url, "logs")
        writer = server.services.logs.open(GROUP, STREAM)
        writer.write("loss=1; ü")
        assert messages(logs) == ["loss=1; ü"]
        writer.write("loss=2;")
        writer.write("")
        writer.close()
        streams = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
        groups = logs.describe_log_groups()["logGroups"]
    with serve(home) as server:
        logs = client(server.url, "logs")
        assert messages(logs) == ["loss=1; ü", "loss=2;", ""]
        again = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
        assert again == streams
        assert logs.describe_log_groups()["logGroups"] == groups
        server.services.logs.open(GROUP, STREAM).write("resumed")
        assert messages(logs)[-1] == "resumed"


def test_the_tail_is_the_last_lines_of_all_hosts(server: Server) -> None:
    logs = server.services.logs
    hosts = [logs.open(GROUP, f"job/algo-{rank}-1") for rank in (1, 2)]
    for number in range(4):
        hosts[number % 2].write(f"line {number}")
        time.sleep(0.002)
    logs.open(GROUP, "other/algo-1-1").write("other")
    assert logs.tail(GROUP, "job/", 3) == ["line 1", "line 2", "line 3"]
    assert logs.tail(GROUP, "none/", 3) == []
    assert logs.tail("/no/group", "job/", 3) == []


def test_pages_and_filters(server: Server) -> None:
    writer = server.services.logs.open(GROUP, STREAM)
    for number in range(25):
        writer.write(f"epoch={number};")
    server.services.logs.open(GROUP, "job/algo-2-1").write("epoch=99;")
    logs = client(server.url, "logs")
    found, token = [], None
    while True:
        options: dict[str, Any] = {"nextToken": token} if token else {}
        page = logs.get_log_events(
            logGroupName=GROUP, logStreamName=STREAM, startFromHead=True, limit=10, **options
        )
        if page["nextForwardToken"] == token:
            break
        found += [event["message"] for event in page["events"]]
        token = page["nextForwardToken"]
    assert found == [f"epoch={number};" for number in range(25)]
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=GROUP,
        logStreamNamePrefix="job/algo-1",
        filterPattern='"epoch=2"',
        PaginationConfig={"PageSize": 3},
    )
    events = [event for page in pages for event in page["events"]]
    assert [event["message"] for event in events] == [
        "epoch=2;",
        *(f"epoch={number};" for number in range(20, 25)),
    ]
    both = logs.filter_log_events(logGroupName=GROUP)["events"]
    assert len({event["eventId"] for event in both}) == 26


def test_events_of_streams_with_a_prefix_are_in_order_of_time(
    server: Server,
) -> None:
    logs = client(server.url, "logs")
    streams = ["job/algo-1", "job/algo-2", "other/algo-1"]
    opened = [server.services.logs.open(GROUP, stream) for stream in streams]
    for number in range(6):
        opened[number % 3].write(f"line {number}")
        time.sleep(0.002)  # events' times are whole milliseconds

    def found(**asked: str) -> list[str]:
        events = logs.filter_log_events(logGroupName=GROUP, **asked)["events"]
        return [event["message"] for event in events]

    assert found(logStreamNamePrefix="job/") == ["line 0", "line 1", "line 3", "line 4"]
    assert found(logStreamNamePrefix="other/algo-1") == ["line 2", "line 5"]
    assert found(logStreamNamePrefix="nobody") == []
    assert found() == [f"line {number}" for number in range(6)]
    assert found(logStreamNamePrefix="job/", filterPattern='"line 3"') == ["line 3"]
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.filter_log_events(logGroupName="nobody", logStreamNamePrefix="job/")


def test_old_events_are_loaded_after_a_restart(home: Home) -> None:
    with serve(home) as server:
        server.services.logs.open(GROUP, STREAM)
    old = int((time.time() - 400 * DAY) * 1000)
    (file,) = home.logs.glob("*/*/*.jsonl")
    with file.open("a") as stream:
        stream.write(f'[{old},{old},"last year"]\n')
    with serve(home) as server:
        assert messages(client(server.url, "logs")) == ["last year"]


def test_groups_and_streams_are_created_and_deleted_by_the_api(home: Home) -> None:
    now = int(time.time() * 1000)
    with serve(home) as server:
        logs = client(server.url, "logs")
        for group in ("/kept", "/gone"):
            logs.create_log_group(logGroupName=group)
            for stream in ("one", "two"):
                logs.create_log_stream(logGroupName=group, logStreamName=stream)
        logs.put_log_events(
            logGroupName="/kept",
            logStreamName="one",
            logEvents=[{"timestamp": now, "message": "by the API"}],
        )
        logs.put_retention_policy(logGroupName="/kept", retentionInDays=7)
        logs.delete_log_stream(logGroupName="/kept", logStreamName="two")
        logs.delete_log_group(logGroupName="/gone")
        server.services.logs.open("/gone", "again").write("x")
        with pytest.raises(ClientError, match="ResourceAlreadyExistsException"):
            logs.create_log_stream(logGroupName="/kept", logStreamName="one")
    with serve(home) as server:
        logs = client(server.url, "logs")
        kept, gone = "/kept", "/gone"
        groups = {group["logGroupName"]: group for group in logs.describe_log_groups()["logGroups"]}
        assert groups[kept]["retentionInDays"] == 7
        assert _streams(logs, kept) == ["one"]
        assert _streams(logs, gone) == ["again"]
        events = logs.get_log_events(logGroupName=kept, logStreamName="one")["events"]
        assert [(event["timestamp"], event["message"]) for event in events] == [(now, "by the API")]


def _streams(logs: Any, group: str) -> list[str]:
    found = logs.describe_log_streams(logGroupName=group)["logStreams"]
    return [stream["logStreamName"] for stream in found]


def test_many_writers_do_not_lose_lines(server: Server) -> None:
    writer = server.services.logs.open(GROUP, STREAM)

    def write(name: str) -> None:
        for number in range(200):
            writer.write(f"{name}{number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = server.services.logs.tail(GROUP, STREAM, 1000)
    assert len(found) == 800
    assert [line for line in found if line.startswith("c")] == [f"c{n}" for n in range(200)]


def test_a_partial_line_of_a_killed_server_is_left_out(home: Home) -> None:
    with serve(home) as server:
        server.services.logs.open(GROUP, STREAM).write("whole")
    (file,) = home.logs.glob("*/*/*.jsonl")
    with file.open("a") as stream:
        stream.write('[1,1,"ha')
    with serve(home) as server:
        assert server.services.logs.tail(GROUP, "", 10) == ["whole"]


def test_a_full_disk_loses_the_line_but_does_not_fail_the_job(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = server.services.logs.open(GROUP, STREAM)
    writer.write("before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda _descriptor, _data: 0)
        writer.write("lost")
    writer.write("after")
    assert server.services.logs.tail(GROUP, "", 10) == ["before", "after"]


def test_long_names_and_many_streams(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "CACHED_STREAMS", 2)
    names = [f"{'x/' * 120}{number}" for number in range(5)]
    for name in names:
        server.services.logs.open(GROUP, name).write(name)
    for _ in range(2):
        assert [server.services.logs.tail(GROUP, name, 1) for name in names] == [[n] for n in names]


def test_metrics_survive_a_restart_and_old_ones_are_removed(home: Home) -> None:
    now = time.time()
    dimensions = {"TrainingJobName": "job"}
    with serve(home) as server:
        cloudwatch = client(server.url, "cloudwatch")
        assert cloudwatch.list_metrics()["Metrics"] == []
        points = [("loss", 2.0, now - 90), ("loss", 1.0, now), ("loss", 987654.25, now - 20 * DAY)]
        server.services.logs.put_metrics(GROUP, dimensions, points)
        cloudwatch.put_metric_data(
            Namespace="mine",
            MetricData=[
                {
                    "MetricName": "spread",
                    "StatisticValues": {"Sum": 6, "Minimum": 1, "Maximum": 3, "SampleCount": 3},
                },
                {"MetricName": "spread", "Values": [5, 7], "Counts": [1, 2]},
            ],
        )
        assert _maxima(cloudwatch, GROUP, "loss", dimensions) == [1.0, 2.0, 987654.25]
        before = _maxima(cloudwatch, "mine", "spread", {})
    with serve(home) as server:
        cloudwatch = client(server.url, "cloudwatch")
        assert _maxima(cloudwatch, GROUP, "loss", dimensions) == [1.0, 2.0]
        assert _maxima(cloudwatch, "mine", "spread", {}) == before != []
    assert "987654.25" not in (home.logs / "metrics-us-east-1.jsonl").read_text()


def _maxima(cloudwatch: Any, namespace: str, name: str, dimensions: dict[str, str]) -> list[float]:
    now = datetime.now(UTC)
    found = cloudwatch.get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(days=30),
        EndTime=now + timedelta(minutes=5),
        Period=60,
        Statistics=["Maximum"],
    )["Datapoints"]
    return sorted(point["Maximum"] for point in found)


def test_endpoint_metrics_have_every_statistic_and_survive_a_restart(home: Home) -> None:
    now = datetime.now(UTC)
    dimensions = {"EndpointName": "one", "VariantName": "AllTraffic"}
    with serve(home) as server:
        metrics = EndpointMetrics(server.services.logs)
        for status, seconds in ((200, 0.1), (200, 0.3), (400, 0.2), (0, 1.0), (503, 0.4)):
            metrics.record("one", "AllTraffic", Measurement(status, seconds, 0.002, 2))
        metrics.flush()
    named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    period = {
        "StartTime": now - timedelta(minutes=5),
        "EndTime": now + timedelta(minutes=5),
    }
    with serve(home) as server:
        cloudwatch = client(server.url, "cloudwatch")
        listed = cloudwatch.list_metrics(Namespace="AWS/SageMaker", Dimensions=named)["Metrics"]
        assert {each["MetricName"] for each in listed} == set(UNITS)

        def statistic(name: str, kind: str) -> float:
            [point] = cloudwatch.get_metric_statistics(
                Namespace="AWS/SageMaker",
                MetricName=name,
                Dimensions=named,
                Period=3600,
                Statistics=[kind],
                Unit=UNITS[name],
                **period,
            )["Datapoints"]
            return float(point[kind])

        assert statistic("Invocations", "Sum") == 5
        assert statistic("Invocations", "SampleCount") == 5
        assert statistic("InvocationsPerInstance", "Sum") == pytest.approx(2.5)
        assert statistic("Invocation4XXErrors", "Sum") == 1
        assert statistic("Invocation4XXErrors", "Average") == pytest.approx(0.2)
        assert statistic("Invocation5XXErrors", "Sum") == 2
        assert statistic("ModelLatency", "Average") == pytest.approx(400_000)
        assert statistic("ModelLatency", "Maximum") == pytest.approx(1_000_000)
        assert statistic("ModelLatency", "Minimum") == pytest.approx(100_000)
        assert statistic("OverheadLatency", "Average") == pytest.approx(2000)
        metric = {"Namespace": "AWS/SageMaker", "MetricName": "Invocations", "Dimensions": named}
        query = {"Id": "a", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "Sum"}}
        [answer] = cloudwatch.get_metric_data(MetricDataQueries=[query], **period)[
            "MetricDataResults"
        ]
        assert sum(answer["Values"]) == 5


def test_settings_of_a_group_survive_a_restart(home: Home) -> None:
    with serve(home) as server:
        logs = client(server.url, "logs")
        logs.create_log_group(logGroupName="/group", tags={"a": "1"})
        arn = logs.describe_log_groups()["logGroups"][0]["logGroupArn"]
        logs.tag_resource(resourceArn=arn, tags={"b": "2"})
        logs.untag_resource(resourceArn=arn, tagKeys=["a"])
        metric = {"metricName": "errors", "metricNamespace": "mine", "metricValue": "1"}
        for name in ("kept", "gone"):
            logs.put_metric_filter(
                logGroupName="/group",
                filterName=name,
                filterPattern="ERROR",
                metricTransformations=[metric],
            )
        logs.delete_metric_filter(logGroupName="/group", filterName="gone")
    with serve(home) as server:
        logs = client(server.url, "logs")
        assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
        [kept] = logs.describe_metric_filters(logGroupName="/group")["metricFilters"]
        assert (kept["filterName"], kept["metricTransformations"]) == ("kept", [metric])


def test_events_too_old_or_too_new_are_rejected(server: Server) -> None:
    logs = client(server.url, "logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    now = int(time.time() * 1000)
    hour = 3600 * 1000
    batches = [
        (
            [now - 14 * DAY * 1000 - hour, now - 14 * DAY * 1000 + hour],
            {"tooOldLogEventEndIndex": 1},
        ),
        ([now, now + 3 * hour], {"tooNewLogEventStartIndex": 1}),
    ]
    for times, rejected in batches:
        events = [{"timestamp": moment, "message": str(moment)} for moment in times]
        answer = logs.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=events)
        assert answer["rejectedLogEventsInfo"] == rejected
    assert messages(logs) == [str(batches[0][0][1]), str(now)]


def test_streams_in_pages_by_name_and_by_their_last_event(server: Server) -> None:
    for name in ("b", "a", "c"):
        server.services.logs.open(GROUP, name).write(name)
        time.sleep(0.002)  # events' times are whole milliseconds
    logs = client(server.url, "logs")

    def names(**options: Any) -> list[list[str]]:
        pages = logs.get_paginator("describe_log_streams").paginate(
            logGroupName=GROUP, PaginationConfig={"PageSize": 2}, **options
        )
        return [[stream["logStreamName"] for stream in page["logStreams"]] for page in pages]

    assert names() == [["a", "b"], ["c"]]
    assert names(orderBy="LastEventTime", descending=True) == [["c", "a"], ["b"]]


@pytest.mark.parametrize("protocol", ["json", "query"])
def test_metrics_put_with_other_protocols_survive_a_restart(home: Home, protocol: str) -> None:
    now = int(time.time())
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    form = {
        "Action": "PutMetricData",
        "Version": "2010-08-01",
        "Namespace": "mine",
        "MetricData.member.1.MetricName": "loss",
        "MetricData.member.1.Dimensions.member.1.Name": "job",
        "MetricData.member.1.Dimensions.member.1.Value": "1",
        "MetricData.member.1.Timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
        "MetricData.member.1.Value": "0.5",
    }
    body: str | dict[str, str] = form
    if protocol == "json":
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData",
        }
        dimensions = [{"Name": "job", "Value": "1"}]
        point = {"MetricName": "loss", "Dimensions": dimensions, "Timestamp": now, "Value": 0.5}
        body = json.dumps({"Namespace": "mine", "MetricData": [point]})
    with serve(home) as server:
        signed = Signed(server.url, "monitoring")
        answer = requests.post(server.url, body, headers=headers, auth=signed, timeout=60)
        assert answer.ok, answer.text
        before = _maxima(client(server.url, "cloudwatch"), "mine", "loss", {"job": "1"})
    with serve(home) as server:
        after = _maxima(client(server.url, "cloudwatch"), "mine", "loss", {"job": "1"})
    assert before == after == [0.5]


def test_events_may_be_listed_newest_first(server: Server) -> None:
    for stream in ("job/a", "job/b"):
        writer = server.services.logs.open(GROUP, stream)
        for number in range(3):
            writer.write(f"{stream} {number}")
    logs = client(server.url, "logs")
    pages = logs.get_paginator("filter_log_events").paginate

    def found(*, first: bool, size: int) -> list[str]:
        options = {"logGroupName": GROUP, "startFromHead": first}
        every = pages(**options, PaginationConfig={"PageSize": size})
        return [event["eventId"] for page in every for event in page["events"]]

    oldest = found(first=True, size=10)
    assert len(set(oldest)) == 6
    assert found(first=False, size=10) == found(first=False, size=2) == oldest[::-1]


def event(**changed: Any) -> dict[str, Any]:
    return {"timestamp": int(time.time() * 1000), "message": "a", **changed}


@pytest.mark.parametrize(
    ("operation", "members", "named"),
    [
        ("PutLogEvents", {"logEvents": [event(timestamp="now")]}, "timestamp"),
        ("PutLogEvents", {"logEvents": [event(message="")]}, "message"),
        ("PutLogEvents", {"logEvents": [{"message": "a"}]}, "timestamp"),
        ("PutLogEvents", {"logEvents": []}, "logEvents"),
        ("PutLogEvents", {"logEvents": ["a"]}, "logEvents"),
        ("PutLogEvents", {"logEvents": [event(message="\u00e9" * 525_000)]}, "too large"),
        ("PutLogEvents", {"logEvents": [event(message="a" * 20)] * 10_001}, "logEvents"),
        ("PutLogEvents", {"logEvents": [event(), event(timestamp=5)]}, "chronological"),
        ("PutLogEvents", {"logEvents": [event(timestamp=5), event()]}, "24 hours"),
        ("GetLogEvents", {"limit": 0}, "limit"),
        ("GetLogEvents", {"limit": "ten"}, "limit"),
        ("GetLogEvents", {"startTime": -1}, "startTime"),
        ("FilterLogEvents", {"logStreamNames": "one"}, "logStreamNames"),
        ("FilterLogEvents", {"filterPattern": {}}, "filterPattern"),
        ("CreateLogGroup", {"logGroupName": "a b"}, "logGroupName"),
        ("CreateLogGroup", {"logGroupName": "new", "tags": {"a": 1}}, "tags"),
        ("CreateLogStream", {"logStreamName": "a:b"}, "logStreamName"),
        ("DescribeLogStreams", {"orderBy": "Size"}, "orderBy"),
        ("DescribeLogGroups", {"limit": 51}, "limit"),
        ("PutRetentionPolicy", {"retentionInDays": "week"}, "retentionInDays"),
        ("PutMetricFilter", {"filterName": "f", "filterPattern": "a"}, "metricTransformations"),
    ],
)
def test_members_are_checked_as_botocores_model_has_them(
    server: Server, operation: str, members: dict[str, Any], named: str
) -> None:
    server.services.logs.open(GROUP, "one").write("a")
    target = {
        "X-Amz-Target": f"Logs_20140328.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    group = {} if operation == "DescribeLogGroups" else {"logGroupName": GROUP}
    stream = {"logStreamName": "one"} if operation.endswith(("LogEvents", "LogStream")) else {}
    if operation == "FilterLogEvents":
        stream = {}
    answer = requests.post(
        server.url,
        json=group | stream | members,
        headers=target,
        auth=Signed(server.url, "logs"),
        timeout=30,
    )
    assert answer.status_code == 400
    assert answer.json()["__type"] in ("InvalidParameterException", "SerializationException")
    assert named in answer.json()["message"]

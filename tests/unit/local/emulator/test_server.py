import contextlib
import json
import logging
import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError

from local.emulator.home import Home
from local.emulator.server import PortTaken, Server
from tests.unit.local.emulator.server_harness import FakeIdleExecutor, Signed, client, serve


def test_health_identifies_the_server(server: Server, home: Home) -> None:
    health = requests.get(f"{server.url}/_berth/health", timeout=60).json()
    assert (health["status"], health["executor"]) == ("ok", "process")
    assert health["home"] == str(home.path)
    assert requests.get(f"{server.url}/_berth/other", timeout=60).status_code == 404


def test_a_signed_shutdown_request_ends_the_server(server: Server) -> None:
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    assert requests.get(f"{server.url}/_berth/shutdown", timeout=60).status_code == 404
    assert waiting.is_alive()
    assert requests.post(f"{server.url}/_berth/shutdown", timeout=60).status_code == 403
    assert waiting.is_alive()
    signed = Signed(server.url, "berth")
    answer = requests.post(f"{server.url}/_berth/shutdown", auth=signed, timeout=60)
    assert answer.status_code == 200, answer.text
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "127.0.0.1.attacker.example"},
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_requests_from_other_web_pages_are_refused(server: Server, headers: dict[str, str]) -> None:
    client(server.url, "s3").create_bucket(Bucket="bucket")
    answer = requests.post(f"{server.url}/_berth/shutdown", headers=headers, timeout=60)
    assert answer.status_code == 403
    assert requests.put(f"{server.url}/other", headers=headers, timeout=60).status_code == 403
    assert not server.services.objects.bucket_exists("other")
    own = requests.get(
        f"{server.url}/_berth/health", headers={"Host": f"localhost:{server.port}"}, timeout=60
    )
    assert own.status_code == 200
    inside = {"Host": f"host.docker.internal:{server.port}"}
    assert requests.get(f"{server.url}/_berth/health", headers=inside, timeout=60).ok
    assert "Access-Control-Allow-Origin" not in requests.get(server.url, timeout=60).headers


def test_each_service_is_found_by_its_signature(server: Server) -> None:
    assert client(server.url, "sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert client(server.url, "s3").list_buckets()["Buckets"] == []
    runtime = client(server.url, "sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ClientError) as error:
        runtime.invoke_endpoint(EndpointName="missing", Body=b"x")
    assert error.value.response["Error"]["Code"] == "ValidationError"


def test_regions_are_separate(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeIdleExecutor, "check_image", lambda _self, _image: None)
    model = {
        "ModelName": "model",
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/berth",
        "PrimaryContainer": {"Image": "berth:latest"},
    }
    groups = "/aws/sagemaker/TrainingJobs"
    with serve(home) as server:
        here = client(server.url, "sagemaker", region="us-east-1")
        there = client(server.url, "sagemaker", region="eu-west-1")
        assert ":eu-west-1:" in there.create_model(**model)["ModelArn"]
        assert here.list_models()["Models"] == []
        assert ":us-east-1:" in here.create_model(**model)["ModelArn"]
        here.delete_model(ModelName="model")
        with contextlib.closing(server.services.logs.open(groups, "stream")) as stream:
            stream.write("hello")
        server.services.logs.put_metrics("space", {"Job": "a"}, [("score", 0.5, time.time())])
        for region, count in (("us-east-1", 1), ("eu-west-1", 0)):
            logs = client(server.url, "logs", region=region)
            assert len(logs.describe_log_groups()["logGroups"]) == count
            metrics = client(server.url, "cloudwatch", region=region)
            assert len(metrics.list_metrics(Namespace="space")["Metrics"]) == count
        with pytest.raises(ClientError, match="valid region, not 'mars'"):
            client(server.url, "sagemaker", region="mars").list_models()
    with serve(home) as server:
        there = client(server.url, "sagemaker", region="eu-west-1")
        assert [found["ModelName"] for found in there.list_models()["Models"]] == ["model"]
        assert client(server.url, "sagemaker").list_models()["Models"] == []


def test_every_request_is_a_line_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "local.emulator.server")
    client(server.url, "s3").create_bucket(Bucket="bucket")
    client(server.url, "ecr").describe_repositories()
    client(server.url, "iam").list_roles()
    client(server.url, "sagemaker").list_models()
    requests.get(f"{server.url}/_berth/health", timeout=60)
    expected = [
        "s3 CreateBucket 200",
        "ecr DescribeRepositories 200",
        "iam ListRoles 200",
        "sagemaker ListModels 200",
    ]
    deadline = time.monotonic() + 60  # a line is written after the response, in the server's thread

    def told() -> list[str]:
        return [" ".join(record.getMessage().split()[:3]) for record in caplog.records]

    while len(told()) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told() == expected


def test_a_port_in_use_is_named_and_no_files_are_left(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port}: .*--port or BERTH_PORT"):
            serve(home, port)
    with serve(home, port) as server:
        assert server.port == port


def test_containers_of_an_earlier_server_are_removed_first(home: Home) -> None:
    executor = FakeIdleExecutor()
    with Server(home, executor=executor):
        assert executor.reaped == 1


def test_services_recover_before_their_dependents_and_stop_after_them(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    server = serve(home)
    for name in ("training", "tuning", "transform", "endpoints"):
        runner = getattr(server.services, name)
        for verb in ("recover", "shutdown"):
            call = partial(calls.append, f"{verb} {name}")
            monkeypatch.setattr(runner, verb, call)
    with server:
        assert [call.split()[1] for call in calls] == [
            "training",
            "tuning",
            "transform",
            "endpoints",
        ]
    assert calls[4:] == [
        "shutdown endpoints",
        "shutdown transform",
        "shutdown tuning",
        "shutdown training",
    ]


def test_no_request_is_answered_before_the_recovery(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(home)
    asked: list[object] = []

    def recover() -> None:
        with pytest.raises(requests.Timeout):
            requests.get(f"{server.url}/_berth/health", timeout=0.2)
        asked.append(None)

    monkeypatch.setattr(server.services.endpoints, "recover", recover)
    with server:
        assert asked
        assert requests.get(f"{server.url}/_berth/health", timeout=60).ok


def test_a_second_server_in_a_process_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="one local SageMaker at a time"):
        serve(Home.find(tmp_path / "other"))
    assert client(server.url, "s3").list_buckets()["Buckets"] == []


def test_a_stopped_server_closes_its_port(home: Home) -> None:
    with serve(home) as server:
        url = server.url
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/_berth/health", timeout=60)


def test_an_error_of_the_sagemaker_service_has_the_right_shape(server: Server) -> None:
    sagemaker = client(server.url, "sagemaker")
    with pytest.raises(sagemaker.exceptions.ClientError) as error:
        sagemaker.describe_training_job(TrainingJobName="missing")
    assert "not found" in json.dumps(error.value.response["Error"]).lower()


def test_a_client_gets_100_continue_once(server: Server) -> None:
    head = "PUT /_berth/health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 1\r\nConnection: close\r\n\r\na".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.count(b"HTTP/1.1 100 ") == 1
    assert b"HTTP/1.1 404 " in answer


def test_unsupported_apis_signed_for_sagemaker_are_refused(server: Server) -> None:
    metrics, features = (
        client(server.url, service)
        for service in ("sagemaker-metrics", "sagemaker-featurestore-runtime")
    )
    metric = {"MetricName": "m", "Timestamp": 1, "Value": 1.0}
    with pytest.raises(ClientError, match="UnknownOperationException.*does not support this"):
        metrics.batch_put_metrics(TrialComponentName="t", MetricData=[metric])
    with pytest.raises(ClientError, match="UnknownOperationException.*does not support this"):
        features.get_record(FeatureGroupName="f", RecordIdentifierValueAsString="1")

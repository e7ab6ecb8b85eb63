import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.validate import ParamValidator
from werkzeug.serving import make_server
from werkzeug.test import Client

from local.emulator.api.app import SageMakerApp
from local.emulator.api.operations import OPERATIONS
from local.emulator.context import Context
from local.emulator.shapes.service_model import operation_model, service_model
from local.emulator.store import Kind, Record

Change = Callable[..., dict[str, Any]]


def send(app: SageMakerApp, target: str, body: Any) -> tuple[int, dict[str, Any], Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = Client(app).post("/", data=data, headers={"X-Amz-Target": target})
    return response.status_code, json.loads(response.data or b"{}"), response.headers


def test_an_unmodified_boto3_client_over_http(app: SageMakerApp, valid: Change) -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = boto3.client(
        "sagemaker",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )
    try:
        before = datetime.now(UTC)
        arn = client.create_training_job(**valid("create_training_job"))["TrainingJobArn"]
        assert arn == "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
        answer = client.describe_training_job(TrainingJobName="job")
        assert 0 <= (answer["CreationTime"] - before).total_seconds() < 60
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert headers["content-type"] == "application/x-amz-json-1.1"
        assert answer["ResponseMetadata"]["RequestId"] == headers["x-amzn-requestid"]
        with pytest.raises(client.exceptions.ResourceInUse):
            client.create_training_job(**valid("create_training_job"))
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_error_has_the_shape_of_aws(app: SageMakerApp) -> None:
    status, body, headers = send(
        app, "SageMaker.DescribeHyperParameterTuningJob", {"HyperParameterTuningJobName": "no"}
    )
    assert status == 400
    assert body["__type"] == headers["x-amzn-ErrorType"] == "ResourceNotFound"
    assert body["message"].startswith("Requested resource not found")
    assert headers["Content-Type"] == "application/x-amz-json-1.1"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("SageMaker.DescribePipeline", "does not support DescribePipeline; it supports AddTags, "),
        ("SageMaker.MakeTea", "'MakeTea' is not an operation"),
        ("DynamoDB_20120810.GetItem", "'DynamoDB_20120810.GetItem'"),
        ("", "SageMaker.<Operation>"),
    ],
)
def test_an_unknown_operation_is_named(app: SageMakerApp, target: str, expected: str) -> None:
    status, body, _ = send(app, target, {})
    assert (status, body["__type"]) == (400, "UnknownOperationException")
    assert expected in body["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff", b"12", b"[" * 100_000])
def test_a_body_that_is_not_an_object(app: SageMakerApp, body: bytes) -> None:
    status, answer, _ = send(app, "SageMaker.ListModels", body)
    assert (status, answer["__type"]) == (400, "SerializationException")
    assert "body" in answer["message"]


def test_a_bug_is_an_internal_failure_and_a_traceback(
    app: SageMakerApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(context: Context, request: dict[str, Any]) -> None:
        raise RuntimeError("the reason")

    monkeypatch.setitem(OPERATIONS, "ListModels", broken)
    with caplog.at_level(logging.ERROR):
        status, body, _ = send(app, "SageMaker.ListModels", {})
    assert (status, body["__type"]) == (500, "InternalFailure")
    assert "ListModels" in body["message"]
    assert "the reason" not in body["message"]
    assert "RuntimeError: the reason" in caplog.text


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_is_an_error_that_clients_do_not_retry(
    app: SageMakerApp, monkeypatch: pytest.MonkeyPatch, context: Context, failure: Exception
) -> None:
    def full(context: Context, request: dict[str, Any]) -> None:
        raise failure

    monkeypatch.setitem(OPERATIONS, "ListModels", full)
    status, body, _ = send(app, "SageMaker.ListModels", {})
    assert (status, body["__type"]) == (507, "InternalFailure")
    assert body["message"] == f"Nothing was saved in {context.home.path}: {failure}."


def test_a_response_member_unknown_to_the_api_is_a_bug(
    app: SageMakerApp, served: Any, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    context.store.update(
        Kind.MODEL, "model", lambda record: record.body.__setitem__("Colour", "blue")
    )
    status, body, _ = send(app, "SageMaker.DescribeModel", {"ModelName": "model"})
    assert (status, body["__type"]) == (500, "InternalFailure")
    assert "has no member Colour" in caplog.text


def test_an_unreachable_engine_is_an_error_at_once(
    refused: Callable[..., str], executor: Any
) -> None:
    executor.gone = True
    message = refused("create_training_job", code="ServiceUnavailable")
    assert message == "Docker does not answer: start it, then try again"


@pytest.mark.parametrize("kind", ["Model", "EndpointConfig"])
def test_every_member_of_a_create_request_is_described(kind: str) -> None:
    members = operation_model(f"Create{kind}").input_shape.members.keys() - {"Tags"}
    described = operation_model(f"Describe{kind}").output_shape.members
    assert members <= described.keys()


def test_every_required_operation_is_implemented() -> None:
    kinds = ("TrainingJob", "HyperParameterTuningJob", "Model", "EndpointConfig", "Endpoint")
    wanted = {
        f"{verb}{kind}" for kind in (*kinds, "TransformJob") for verb in ("Create", "Describe")
    }
    wanted |= {f"List{kind}s" for kind in (*kinds, "TransformJob")}
    wanted |= {f"Stop{kind}" for kind in (*kinds[:2], "TransformJob")}
    wanted |= {f"Delete{kind}" for kind in kinds}
    wanted |= {
        "ListTrainingJobsForHyperParameterTuningJob",
        "UpdateTrainingJob",
        "UpdateEndpoint",
        "UpdateEndpointWeightsAndCapacities",
        "AddTags",
        "ListTags",
        "DeleteTags",
        "Search",
        "GetSearchSuggestions",
    }
    assert wanted == OPERATIONS.keys()
    assert wanted <= set(service_model().operation_names)


REQUESTS: dict[str, dict[str, Any]] = {
    "DescribeTrainingJob": {"TrainingJobName": "job"},
    "ListTrainingJobs": {},
    "StopTrainingJob": {"TrainingJobName": "job"},
    "UpdateTrainingJob": {"TrainingJobName": "job", "ProfilerConfig": {}},
    "DescribeHyperParameterTuningJob": {"HyperParameterTuningJobName": "tune"},
    "ListHyperParameterTuningJobs": {},
    "ListTrainingJobsForHyperParameterTuningJob": {"HyperParameterTuningJobName": "tune"},
    "StopHyperParameterTuningJob": {"HyperParameterTuningJobName": "tune"},
    "DescribeModel": {"ModelName": "model"},
    "ListModels": {},
    "DescribeEndpointConfig": {"EndpointConfigName": "config"},
    "ListEndpointConfigs": {},
    "DescribeEndpoint": {"EndpointName": "endpoint"},
    "ListEndpoints": {},
    "UpdateEndpoint": {"EndpointName": "endpoint", "EndpointConfigName": "config"},
    "UpdateEndpointWeightsAndCapacities": {
        "EndpointName": "endpoint",
        "DesiredWeightsAndCapacities": [{"VariantName": "all", "DesiredWeight": 2}],
    },
    "DescribeTransformJob": {"TransformJobName": "batch"},
    "ListTransformJobs": {},
    "StopTransformJob": {"TransformJobName": "batch"},
    "AddTags": {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/model",
        "Tags": [{"Key": "a", "Value": "b"}],
    },
    "ListTags": {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/model"},
    "DeleteTags": {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/model",
        "TagKeys": ["a"],
    },
    "Search": {"Resource": "TrainingJob"},
    "GetSearchSuggestions": {"Resource": "TrainingJob"},
    "DeleteEndpoint": {"EndpointName": "endpoint"},
    "DeleteEndpointConfig": {"EndpointConfigName": "config"},
    "DeleteModel": {"ModelName": "model"},
    "DeleteTrainingJob": {"TrainingJobName": "done"},
    "DeleteHyperParameterTuningJob": {"HyperParameterTuningJobName": "done"},
}

CREATED = {
    "CreateTrainingJob": "create_training_job",
    "CreateHyperParameterTuningJob": "create_hyper_parameter_tuning_job",
    "CreateModel": "create_model",
    "CreateEndpointConfig": "create_endpoint_config",
    "CreateEndpoint": "create_endpoint",
    "CreateTransformJob": "create_transform_job",
}


def complete(status_member: str, record: Record) -> None:
    record.body[status_member] = "Completed"


@pytest.fixture
def full(app: SageMakerApp, context: Context, valid: Change) -> SageMakerApp:
    """Create one resource of every type, and one ended job of each kind."""
    for name in ("CreateModel", "CreateEndpointConfig"):
        assert send(app, f"SageMaker.{name}", valid(CREATED[name]))[0] == 200
    for operation in (
        "CreateTrainingJob",
        "CreateHyperParameterTuningJob",
        "CreateTransformJob",
        "CreateEndpoint",
    ):
        assert send(app, f"SageMaker.{operation}", valid(CREATED[operation]))[0] == 200
    for kind, prefix, method in (
        (Kind.TRAINING_JOB, "TrainingJob", "create_training_job"),
        (Kind.TUNING_JOB, "HyperParameterTuningJob", "create_hyper_parameter_tuning_job"),
    ):
        request = valid(method, {f"{prefix}Name": "done"})
        assert send(app, f"SageMaker.Create{prefix}", request)[0] == 200
        context.store.update(kind, "done", partial(complete, f"{prefix}Status"))
    return app


def conforms(operation: str, answer: dict[str, Any]) -> None:
    shape = operation_model(operation).output_shape
    if shape is None:
        assert answer == {}
        return
    report = ParamValidator().validate(answer, shape)
    assert not report.has_errors(), report.generate_report()


def test_the_tables_name_every_operation() -> None:
    assert OPERATIONS.keys() == REQUESTS.keys() | CREATED.keys()


@pytest.mark.parametrize("operation", sorted(CREATED))
def test_the_response_of_a_create_operation_has_its_shape(
    app: SageMakerApp, valid: Change, operation: str
) -> None:
    needed = {"CreateEndpointConfig": 1, "CreateTransformJob": 1, "CreateEndpoint": 2}
    for before in ("CreateModel", "CreateEndpointConfig")[: needed.get(operation, 0)]:
        send(app, f"SageMaker.{before}", valid(CREATED[before]))
    status, answer, _ = send(app, f"SageMaker.{operation}", valid(CREATED[operation]))
    assert status == 200, answer
    conforms(operation, answer)


@pytest.mark.parametrize("operation", sorted(REQUESTS))
def test_every_response_has_its_shape(full: SageMakerApp, operation: str) -> None:
    status, answer, _ = send(full, f"SageMaker.{operation}", REQUESTS[operation])
    assert status == 200, answer
    conforms(operation, answer)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_required_members_are_required(app: SageMakerApp, valid: Change, operation: str) -> None:
    request = valid(CREATED[operation]) if operation in CREATED else REQUESTS[operation]
    shape = operation_model(operation).input_shape
    for name in shape.required_members:
        less = {key: value for key, value in request.items() if key != name}
        status, answer, _ = send(app, f"SageMaker.{operation}", less)
        assert (status, answer["__type"]) == (400, "ValidationException")
        lower = name[0].lower() + name[1:]
        assert f"Value null at '{lower}' failed to satisfy constraint" in answer["message"]

"""Services that store records without running containers, and a boto3 client of their API."""

import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from werkzeug.test import EnvironBuilder, run_wsgi_app

from local.emulator.api.app import SageMakerApp
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.executors import ExecutorError, ImageMissing
from local.emulator.home import Home
from local.emulator.ports import StoredObject
from local.emulator.services import Services
from local.emulator.store import Kind, Record, Store
from local.emulator.training.metrics import MetricPoint
from tests.training_requests import channel

ROLE = "arn:aws:iam::123456789012:role/berth"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/toy:latest"


@dataclass
class FakeBuckets:
    """The local S3 as a dictionary."""

    buckets: dict[str, list[str]] = field(default_factory=dict)

    def bucket_exists(self, bucket: str) -> bool:
        return bucket in self.buckets

    def keys(self, bucket: str, prefix: str = "") -> list[StoredObject]:
        found = (key for key in sorted(self.buckets.get(bucket, [])) if key.startswith(prefix))
        return [StoredObject(key, 1, "etag") for key in found]


@dataclass
class FakeImageExecutor:
    """An executor that knows one image."""

    name: str = "process"
    max_hosts: int = 1
    gone: bool = False

    def check_image(self, image: str) -> None:
        if self.gone:
            raise ExecutorError("Docker does not answer: start it, then try again")
        if image != IMAGE:
            raise ImageMissing(f"the image {image} is not on this machine")


class FakeService:
    """Stores a resource's record like the real services, without running containers."""

    def __init__(self, context: Context, kind: Kind, prefix: str, status: str, more: Any) -> None:
        self.context, self.kind, self.prefix, self.status = context, kind, prefix, status
        self.more: Callable[[dict[str, Any]], dict[str, Any]] = more
        self.stopped: list[str] = []
        self.retagged: list[str] = []
        self.updated: list[dict[str, Any]] = []
        self.measured: list[MetricPoint] = []

    def retag(self, name: str) -> None:
        self.retagged.append(name)

    def metrics(self, _name: str) -> list[MetricPoint]:
        return self.measured

    def create(self, request: dict[str, Any], *, tuning_job_arn: str | None = None) -> Record:
        name = request[f"{self.prefix}Name"]
        arn, now = self.context.arn(self.kind, name), datetime.now(UTC)
        body = {key: value for key, value in request.items() if key != "Tags"}
        body |= {
            f"{self.prefix}Arn": arn,
            f"{self.prefix}Status": self.status,
            "CreationTime": now,
            "LastModifiedTime": now,
            **self.more(request),
        }
        if self.kind is Kind.TRANSFORM_JOB:
            del body["LastModifiedTime"]
        if tuning_job_arn is not None:
            body["TuningJobArn"] = tuning_job_arn
        record = self.context.store.add(self.kind, name, arn, body, {"request": request})
        self.context.store.tag(arn, {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])})
        return record

    def stop(self, name: str) -> None:
        def change(record: Record) -> None:
            status = record.body[f"{self.prefix}Status"]
            if status != "InProgress":
                raise invalid(f"The request was rejected because the job is in status {status}.")
            record.body[f"{self.prefix}Status"] = "Stopping"

        self.context.store.update(self.kind, name, change)
        self.stopped.append(name)

    def update(self, *given: Any) -> Any:
        """Update a training job, given its name and request, or an endpoint, given its request."""
        self.updated.append(given[-1])
        return self.context.store.get(self.kind, given[0]) if len(given) > 1 else None

    update_weights = update

    def delete(self, name: str) -> None:
        self.context.store.delete(self.kind, name)


def _counters(_: dict[str, Any]) -> dict[str, Any]:
    return {
        "TrainingJobStatusCounters": {"Completed": 0, "InProgress": 0},
        "ObjectiveStatusCounters": {"Succeeded": 0, "Pending": 0, "Failed": 0},
    }


def _training(request: dict[str, Any]) -> dict[str, Any]:
    artifact = f"{request['OutputDataConfig']['S3OutputPath']}/model.tar.gz"
    return {
        "SecondaryStatus": "Starting",
        "ModelArtifacts": {"S3ModelArtifacts": artifact},
        "StoppingCondition": request.get("StoppingCondition", {}),
    }


def _nothing(_: dict[str, Any]) -> dict[str, Any]:
    return {}


@pytest.fixture
def executor() -> FakeImageExecutor:
    return FakeImageExecutor()


@pytest.fixture
def objects() -> FakeBuckets:
    return FakeBuckets({"data": ["train/a.png", "train/b.png", "model/model.tar.gz"], "out": []})


@pytest.fixture
def context(
    tmp_path: Path, executor: FakeImageExecutor, objects: FakeBuckets
) -> Iterator[Services]:
    home = Home.find(tmp_path / "home")
    store = Store(Path(":memory:"))
    made = Context(home, "us-east-1", store, objects, None, executor)  # type: ignore[arg-type]
    services: dict[str, Any] = {
        "training": FakeService(made, Kind.TRAINING_JOB, "TrainingJob", "InProgress", _training),
        "tuning": FakeService(
            made, Kind.TUNING_JOB, "HyperParameterTuningJob", "InProgress", _counters
        ),
        "transform": FakeService(made, Kind.TRANSFORM_JOB, "TransformJob", "InProgress", _nothing),
        "endpoints": FakeService(made, Kind.ENDPOINT, "Endpoint", "InService", _nothing),
    }
    yield Services(**vars(made), **services)
    store.close()


@pytest.fixture
def app(context: Services) -> SageMakerApp:
    return SageMakerApp(context)


class _StreamedBody(io.BytesIO):
    """A response body with the interface that botocore reads."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()


class _WsgiTransport:
    """Hands botocore's requests to a WSGI application instead of sending them."""

    app: SageMakerApp

    def __call__(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        builder = EnvironBuilder(
            method=request.method,
            headers=[
                (key, value.decode() if isinstance(value, bytes) else value)
                for key, value in request.headers.items()
            ],
            data=request.body,
        )
        body, status, headers = run_wsgi_app(self.app, builder.get_environ(), buffered=True)
        code = int(status.split()[0])
        return AWSResponse(request.url, code, dict(headers), _StreamedBody(b"".join(body)))


def _client(**config: Any) -> tuple[Any, _WsgiTransport]:
    session = boto3.session.Session(
        aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1"
    )
    client = session.client(
        "sagemaker",
        endpoint_url="http://127.0.0.1:1",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )
    transport = _WsgiTransport()
    client.meta.events.register("before-send.sagemaker.*", transport)
    return client, transport


@pytest.fixture(scope="session")
def _checking() -> tuple[Any, _WsgiTransport]:
    return _client()


@pytest.fixture(scope="session")
def _trusting() -> tuple[Any, _WsgiTransport]:
    return _client(parameter_validation=False)


@pytest.fixture
def client(_checking: tuple[Any, _WsgiTransport], app: SageMakerApp) -> Any:
    """Return boto3's client with its defaults."""
    client, transport = _checking
    transport.app = app
    return client


@pytest.fixture
def unchecked(_trusting: tuple[Any, _WsgiTransport], app: SageMakerApp) -> Any:
    """Return boto3's client without parameter validation."""
    client, transport = _trusting
    transport.app = app
    return client


TRAINING: dict[str, Any] = {
    "TrainingJobName": "job",
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "RoleArn": ROLE,
    "InputDataConfig": [channel("train", "s3://data/train/")],
    "OutputDataConfig": {"S3OutputPath": "s3://out/models"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
}

TUNING: dict[str, Any] = {
    "HyperParameterTuningJobName": "tune",
    "HyperParameterTuningJobConfig": {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "accuracy"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 6, "MaxParallelTrainingJobs": 2},
        "ParameterRanges": {
            "ContinuousParameterRanges": [
                {
                    "Name": "lr",
                    "MinValue": "0.001",
                    "MaxValue": "0.1",
                    "ScalingType": "Logarithmic",
                }
            ]
        },
    },
    "TrainingJobDefinition": {
        **{key: value for key, value in TRAINING.items() if key != "TrainingJobName"},
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "accuracy", "Regex": "accuracy=([0-9.]+)"}],
        },
        "StaticHyperParameters": {"epochs": "9"},
    },
}

MODEL: dict[str, Any] = {
    "ModelName": "model",
    "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://data/model/model.tar.gz"},
    "ExecutionRoleArn": ROLE,
}

CONFIG: dict[str, Any] = {
    "EndpointConfigName": "config",
    "ProductionVariants": [
        {
            "VariantName": "all",
            "ModelName": "model",
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
    ],
}

ENDPOINT: dict[str, Any] = {"EndpointName": "endpoint", "EndpointConfigName": "config"}

TRANSFORM: dict[str, Any] = {
    "TransformJobName": "batch",
    "ModelName": "model",
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/train/"}}
    },
    "TransformOutput": {"S3OutputPath": "s3://out/batch"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}

VALID = {
    "create_training_job": TRAINING,
    "create_hyper_parameter_tuning_job": TUNING,
    "create_model": MODEL,
    "create_endpoint_config": CONFIG,
    "create_endpoint": ENDPOINT,
    "create_transform_job": TRANSFORM,
}

Change = Callable[..., dict[str, Any]]


@pytest.fixture
def valid() -> Change:
    """Return a valid request with some fields changed.

    `valid("create_model", {"PrimaryContainer.Image": "x"}, ModelName="m")`: a dotted path sets a
    member (numbers index lists); the value `...` removes it.
    """

    def build(method: str, changes: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        request = copy.deepcopy(VALID[method])
        for path, value in {**(changes or {}), **more}.items():
            *parents, last = path.split(".")
            part: Any = request
            for parent in parents:
                part = part[int(parent)] if isinstance(part, list) else part.setdefault(parent, {})
            if value is ...:
                del part[last]
            else:
                part[last] = copy.deepcopy(value)
        return request

    return build


@pytest.fixture
def served(client: Any, valid: Change) -> Any:
    """Return the client after creating a model, an endpoint configuration and an endpoint."""
    client.create_model(**valid("create_model"))
    client.create_endpoint_config(**valid("create_endpoint_config"))
    client.create_endpoint(**valid("create_endpoint"))
    return client


@pytest.fixture
def refused(unchecked: Any, valid: Change) -> Callable[..., str]:
    """Send a valid request with changes, check the error's code and return its message."""

    def send(
        method: str,
        changes: dict[str, Any] | None = None,
        code: str = "ValidationException",
        **more: Any,
    ) -> str:
        with pytest.raises(unchecked.exceptions.ClientError) as caught:
            getattr(unchecked, method)(**valid(method, changes, **more))
        error = caught.value.response["Error"]
        assert error["Code"] == code, error
        return str(error["Message"])

    return send

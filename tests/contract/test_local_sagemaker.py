"""Unmodified clients on the local SageMaker: boto3, the AWS CLI and SDK v3, offline.

Each client trains, tunes, deploys, invokes and transforms with the real image's commands, which run
as processes, and for boto3 also as containers. Connections to other machines fail. Requests and
responses do not depend on the executor, so one client is enough for containers.
"""

import base64
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from local.emulator.credentials import credentials
from local.emulator.home import Home
from tests.embedded_documents import Document, documents, total
from tests.training_requests import ROLE, training

pytestmark = [
    pytest.mark.timeout(1200),
    # The SDK's modules raise deprecation warnings when they are imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "berth:latest"
REGION = "eu-west-1"
BUCKET = "photos"
LABELS = {"blue", "green", "red"}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""A job's environment: its network is too small for a second thread."""
OFFLINE = Path(__file__).parent / "offline"
METRICS = [
    {"Name": name, "Regex": f"{name}=(.*?);"} for name in ("train:loss", "validation:accuracy")
]


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def executor(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        request.getfixturevalue("image")
    return str(request.param)


@pytest.fixture(scope="module")
def sagemaker(
    executor: str,
    image_folder: Path,
    preloaded: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of an offline local SageMaker with a bucket of coloured images."""
    root = tmp_path_factory.mktemp(executor)
    config = root / "config.yaml"
    config.write_text(
        "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        folders = filter(None, [preloaded.get("PYTHONPATH"), str(OFFLINE)])
        for name, value in {
            **preloaded,
            "PYTHONPATH": os.pathsep.join(folders),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(config),
            "BERTH_HOME": str(root / "home"),
            "OMP_NUM_THREADS": "1",
        }.items():
            patch.setenv(name, value)
        berth("up", "--executor", executor, "--port", "0")
        url = json.loads((root / "home" / "server.json").read_text())["url"]
        key = credentials(Home(root / "home"))
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", key.key_id)
        patch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
        boto3.setup_default_session()  # an earlier session has the access key of another home
        try:
            aws("s3", "mb", f"s3://{BUCKET}")
            aws("s3", "cp", "--recursive", str(image_folder), f"s3://{BUCKET}/coloured")
            yield url
        finally:
            berth("down")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process connect to loopback addresses only."""
    import socket

    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"this test may not reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def berth(*arguments: str) -> str:
    return run(sys.executable, "-m", "local.cli", *arguments)


def aws(*arguments: str) -> str:
    return run(str(Path(sys.executable).parent / "aws"), *arguments)


def wait(describe: Callable[[], str], ends: set[str], limit: float = 600) -> str:
    deadline = time.monotonic() + limit
    while (status := describe()) not in ends:
        assert time.monotonic() < deadline, f"still {status} after {limit} s"
        time.sleep(0.2)
    return status


def training_request(name: str, quick: dict[str, str]) -> dict[str, Any]:
    return {"TrainingJobName": name, "HyperParameters": quick, **definition()}


def definition() -> dict[str, Any]:
    return training(
        IMAGE, BUCKET, "coloured", metrics=METRICS, stopping={"MaxRuntimeInSeconds": 600}
    )


def tuning_request(name: str, quick: dict[str, str]) -> dict[str, Any]:
    static = {key: value for key, value in quick.items() if key != "learning_rate"}
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {
                "Type": "Maximize",
                "MetricName": "validation:accuracy",
            },
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {
                        "Name": "learning_rate",
                        "MinValue": "0.001",
                        "MaxValue": "0.1",
                        "ScalingType": "Logarithmic",
                    }
                ]
            },
        },
        "TrainingJobDefinition": {"StaticHyperParameters": static, **definition()},
    }


def hosting_requests(name: str, artifact: str) -> dict[str, dict[str, Any]]:
    return {
        "create_model": {
            "ModelName": name,
            "PrimaryContainer": {
                "Image": IMAGE,
                "ModelDataUrl": artifact,
                "Environment": {"BERTH_CLOUDWATCH_NAMESPACE": "Photos"},
            },
            "ExecutionRoleArn": ROLE,
        },
        "create_endpoint_config": {
            "EndpointConfigName": name,
            "ProductionVariants": [
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InitialInstanceCount": 1,
                    "InstanceType": "ml.m5.large",
                    "InitialVariantWeight": 1.0,
                }
            ],
        },
        "create_endpoint": {"EndpointName": name, "EndpointConfigName": name},
    }


def transform_request(name: str) -> dict[str, Any]:
    return {
        "TransformJobName": name,
        "ModelName": name,
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{BUCKET}/coloured/validation/red/",
                }
            },
            "ContentType": "image/png",
        },
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/transformed/{name}"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


def picture(image_folder: Path) -> Path:
    return min((image_folder / "validation" / "red").iterdir())


def check_answer(body: bytes) -> None:
    assert json.loads(body)["predictions"][0]["label"] in LABELS


def check_transform(s3: Any, name: str, image_folder: Path) -> None:
    written = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"transformed/{name}/")["Contents"]
    names = {Path(item["Key"]).name for item in written}
    assert names == {f"{path.name}.out" for path in (image_folder / "validation/red").iterdir()}
    for item in written:
        check_answer(s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read())


def metrics_in_the_log(endpoint: str) -> list[Document]:
    """The embedded metric documents in the endpoint's log."""
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    pages = boto3.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return documents("\n".join(event["message"] for page in pages for event in page["events"]))


def test_boto3(sagemaker: str, quick: dict[str, str], image_folder: Path, tmp_path: Path) -> None:
    client, s3 = boto3.client("sagemaker"), boto3.client("s3")
    name = "with-boto3"
    client.create_training_job(**training_request(name, quick))
    client.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 600}
    )
    job = client.describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    accuracy = {m["MetricName"]: m["Value"] for m in job["FinalMetricDataList"]}
    assert 0 <= accuracy["validation:accuracy"] <= 1
    artifact = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifact == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    s3.download_file(BUCKET, f"out/{name}/output/model.tar.gz", str(tmp_path / "model.tar.gz"))
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert {"model.safetensors", "model.json"} <= {
            member.removeprefix("./") for member in archive.getnames()
        }
    logs = boto3.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")
    (stream,) = streams["logStreams"]
    events = logs.get_log_events(
        logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
    )["events"]
    assert any("validation:accuracy=" in event["message"] for event in events)

    client.create_hyper_parameter_tuning_job(**tuning_request(name, quick))

    def tuning() -> dict[str, Any]:
        return client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    wait(
        lambda: tuning()["HyperParameterTuningJobStatus"],
        {"Completed", "Failed", "Stopped"},
    )
    assert tuning()["HyperParameterTuningJobStatus"] == "Completed", tuning()
    assert tuning()["TrainingJobStatusCounters"]["Completed"] == 2
    best = tuning()["BestTrainingJob"]
    trials = client.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, SortBy="FinalObjectiveMetricValue", SortOrder="Descending"
    )["TrainingJobSummaries"]
    objective = "FinalHyperParameterTuningJobObjectiveMetric"
    assert trials[0][objective]["Value"] == best[objective]["Value"]
    assert best["TrainingJobName"] in {trial["TrainingJobName"] for trial in trials}
    assert len({trial["TunedHyperParameters"]["learning_rate"] for trial in trials}) == 2

    for operation, request in hosting_requests(name, artifact).items():
        getattr(client, operation)(**request)
    client.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )
    runtime = boto3.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(
        EndpointName=name,
        ContentType="image/png",
        Accept="application/json",
        CustomAttributes="top_k=2",
        Body=picture(image_folder).read_bytes(),
    )
    check_answer(answer["Body"].read())
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "top_k=2"
    image = base64.b64encode(picture(image_folder).read_bytes()).decode()
    streamed = runtime.invoke_endpoint_with_response_stream(
        EndpointName=name,
        ContentType="application/json",
        Accept="application/jsonlines",
        CustomAttributes="stream=true",
        Body=json.dumps({"instances": [{"b64": image}] * 3}),
    )
    lines = b"".join(event["PayloadPart"]["Bytes"] for event in streamed["Body"]).splitlines()
    assert [json.loads(line)["label"] for line in lines] == [json.loads(lines[0])["label"]] * 3
    with pytest.raises(runtime.exceptions.ModelError) as refused:
        runtime.invoke_endpoint(EndpointName=name, ContentType="image/png", Body=b"not an image")
    assert refused.value.response["OriginalStatusCode"] == 400
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    client.delete_endpoint(EndpointName=name)
    # The container writes the metrics of its last minute when it ends.
    wait(lambda: str(total(metrics_in_the_log(name), "Invocations")), {"3.0"})
    assert total(metrics_in_the_log(name), "Images") == 4
    assert total(metrics_in_the_log(name), "Invocation4XXErrors") == 1

    client.create_transform_job(**transform_request(name))
    client.get_waiter("transform_job_completed_or_stopped").wait(
        TransformJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )
    check_transform(s3, name, image_folder)


@pytest.mark.parametrize("executor", ["process"], indirect=True)
def test_aws_cli(sagemaker: str, quick: dict[str, str], image_folder: Path, tmp_path: Path) -> None:
    name = "with-cli"

    def create(operation: str, request: dict[str, Any]) -> None:
        aws("sagemaker", operation.replace("_", "-"), "--cli-input-json", json.dumps(request))

    client = boto3.client("sagemaker")

    def status(kind: str, ends: set[str]) -> str:
        """The status that the CLI shows once boto3 sees one of `ends`; CLI calls take a second."""
        field, named = f"{kind}Status", f"{kind}Name"
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind).lower()
        describe = getattr(client, f"describe_{words.replace('-', '_')}")
        wait(lambda: describe(**{named: name})[field], ends)
        query = ("--query", field, "--output", "text")
        return aws("sagemaker", f"describe-{words}", f"--{words}-name", name, *query).strip()

    ended = {"Completed", "Failed", "Stopped"}
    create("create_training_job", training_request(name, quick))
    assert status("TrainingJob", ended) == "Completed"
    group = ("--log-group-name", "/aws/sagemaker/TrainingJobs", "--log-stream-name-prefix", name)
    assert "validation:accuracy=" in aws("logs", "filter-log-events", *group)

    create("create_hyper_parameter_tuning_job", tuning_request(name, quick))
    assert status("HyperParameterTuningJob", ended) == "Completed"

    artifact = f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    for operation, request in hosting_requests(name, artifact).items():
        create(operation, request)
    assert status("Endpoint", {"InService", "Failed"}) == "InService"
    answer = tmp_path / "answer.json"
    aws(
        "sagemaker-runtime",
        "invoke-endpoint",
        "--endpoint-name",
        name,
        "--content-type",
        "image/png",
        "--body",
        f"fileb://{picture(image_folder)}",
        str(answer),
    )
    check_answer(answer.read_bytes())
    aws("sagemaker", "delete-endpoint", "--endpoint-name", name)

    create("create_transform_job", transform_request(name))
    assert status("TransformJob", ended) == "Completed"
    check_transform(boto3.client("s3"), name, image_folder)


@pytest.mark.parametrize("executor", ["process"], indirect=True)
def test_sdk_v3(sagemaker: str, quick: dict[str, str], image_folder: Path) -> None:
    import boto3
    from sagemaker.core import resources, shapes
    from sagemaker.core.parameter import ContinuousParameter
    from sagemaker.core.training.configs import Compute, InputData, OutputDataConfig
    from sagemaker.core.utils.utils import SageMakerClient, SingletonMeta
    from sagemaker.train import ModelTrainer
    from sagemaker.train.tuner import HyperparameterTuner

    # The SDK caches its clients for the whole process: drop those of an earlier executor.
    SageMakerClient.reset()
    SingletonMeta._instances.clear()
    trainer = ModelTrainer(
        training_image=IMAGE,
        role=ROLE,
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{BUCKET}/out"),
        hyperparameters={
            **quick,
            "image_size": int(quick["image_size"]),
            "epochs": int(quick["epochs"]),
            "freeze": False,
        },
        environment=ONE_THREAD,
        base_job_name="with-sdk",
    ).with_metric_definitions(
        [shapes.MetricDefinition(name=m["Name"], regex=m["Regex"]) for m in METRICS]
    )
    inputs = [
        InputData(channel_name=name, data_source=f"s3://{BUCKET}/coloured/{name}")
        for name in ("train", "validation")
    ]
    trainer.train(input_data_config=inputs, wait=True, logs=True)
    job = trainer._latest_training_job.refresh()
    assert job.training_job_status == "Completed"
    assert job.model_artifacts is not None

    tuner = HyperparameterTuner(
        model_trainer=trainer,
        objective_metric_name="validation:accuracy",
        hyperparameter_ranges={"learning_rate": ContinuousParameter(0.001, 0.1, "Logarithmic")},
        metric_definitions=METRICS,
        max_jobs=2,
        max_parallel_jobs=2,
    )
    tuner.tune(inputs=inputs, wait=True)
    assert tuner.describe().hyper_parameter_tuning_job_status == "Completed"
    best = resources.TrainingJob.get(tuner.best_training_job())
    assert best.training_job_status == "Completed"

    name = "with-sdk"
    resources.Model.create(
        model_name=name,
        primary_container=shapes.ContainerDefinition(
            image=IMAGE, model_data_url=best.model_artifacts.s3_model_artifacts
        ),
        execution_role_arn=ROLE,
    )
    resources.EndpointConfig.create(
        endpoint_config_name=name,
        production_variants=[
            shapes.ProductionVariant(
                variant_name="AllTraffic",
                model_name=name,
                initial_instance_count=1,
                instance_type="ml.m5.large",
            )
        ],
    )
    endpoint = resources.Endpoint.create(endpoint_name=name, endpoint_config_name=name)
    endpoint.wait_for_status("InService", poll=1, timeout=120)
    answer = endpoint.invoke(body=picture(image_folder).read_bytes(), content_type="image/png")
    check_answer(answer.body.read())
    endpoint.delete()

    request = transform_request(name)
    source = request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    transform = resources.TransformJob.create(
        transform_job_name=name,
        model_name=name,
        transform_input=shapes.TransformInput(
            data_source=shapes.TransformDataSource(
                s3_data_source=shapes.TransformS3DataSource(s3_data_type="S3Prefix", s3_uri=source)
            ),
            content_type="image/png",
        ),
        transform_output=shapes.TransformOutput(
            s3_output_path=request["TransformOutput"]["S3OutputPath"]
        ),
        transform_resources=shapes.TransformResources(
            instance_type="ml.m5.large", instance_count=1
        ),
    )
    transform.wait(poll=1, timeout=300)
    check_transform(boto3.client("s3"), name, image_folder)

"""The image in the SageMaker SDK's local mode, without an AWS account, S3 or a network.

The SDK runs containers with Docker Compose. Here it can connect to loopback addresses only.
"""

import io
import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(900),
    # The SDK does not close the pipes of the commands it runs, and its trainer imports its own
    # modules from deprecated paths.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:sagemaker.train.configs has been moved:DeprecationWarning"),
]

COMPOSE_FOLDER = "com.docker.compose.project.working_dir"
LABELS = {"blue", "green", "red"}
ROLE = "arn:aws:iam::000000000000:role/nobody"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Threads of two hosts on one machine would spin while they wait for each other."""


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove the AWS configuration, turn telemetry off and refuse connections to other machines."""
    config = tmp_path_factory.mktemp("config") / "config.yaml"
    config.write_text(
        "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n"
    )
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"this test may not reach {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        patch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(config))
        patch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(config))
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture(autouse=True)
def tidy(engine: Any, tmp_path: Path) -> Iterator[None]:
    """Remove the stopped containers that the SDK leaves."""
    yield
    for container in engine.containers.list(
        all=True, filters={"label": COMPOSE_FOLDER}, ignore_removed=True
    ):
        if container.labels[COMPOSE_FOLDER].startswith(str(tmp_path)):
            container.remove(force=True)


@pytest.fixture
def session(tmp_path: Path) -> Any:
    from sagemaker.core.local import LocalSession

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = tmp_path / "containers"
    root.mkdir()
    session = LocalSession()
    session.config = {"local": {"container_root": str(root), "serving_port": port}}
    return session


def training_request(
    image: str, channels: dict[str, Path], output: Path, hyperparameters: dict[str, str], hosts: int
) -> dict[str, Any]:
    return {
        "TrainingJobName": "local-mode",
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "HyperParameters": hyperparameters,
        "InputDataConfig": [
            {
                "ChannelName": name,
                "DataSource": {
                    "FileDataSource": {
                        "FileDataDistributionType": "FullyReplicated",
                        "FileUri": folder.as_uri(),
                    }
                },
            }
            for name, folder in channels.items()
        ],
        "OutputDataConfig": {"S3OutputPath": output.as_uri()},
        "ResourceConfig": {"InstanceType": "local", "InstanceCount": hosts, "VolumeSizeInGB": 1},
        "Environment": dict(ONE_THREAD),
    }


def unpack(uri: str, into: Path) -> Path:
    shutil.unpack_archive(uri.removeprefix("file://"), into, "gztar")
    return into


def test_train_deploy_invoke_transform_with_sdk_v3(
    session: Any,
    image: str,
    image_folder: Path,
    channels: dict[str, Path],
    quick: dict[str, str],
    tmp_path: Path,
) -> None:
    client = session.sagemaker_client
    client.create_training_job(**training_request(image, channels, tmp_path / "out", quick, 1))
    job = client.describe_training_job(TrainingJobName="local-mode")
    assert job["TrainingJobStatus"] == "Completed"
    archive = job["ModelArtifacts"]["S3ModelArtifacts"]
    model = unpack(archive, tmp_path / "model")
    assert json.loads((model / "model.json").read_text())["classes"] == ["blue", "green", "red"]

    client.create_model(
        ModelName="model",
        PrimaryContainer={"Image": image, "ModelDataUrl": archive, "Environment": {}},
        ExecutionRoleArn=ROLE,
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "model",
        "InitialInstanceCount": 1,
        "InstanceType": "local",
    }
    client.create_endpoint_config(EndpointConfigName="config", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="endpoint", EndpointConfigName="config")
    try:
        described = client.describe_endpoint(EndpointName="endpoint")
        assert described["EndpointStatus"] == "InService"
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (200, 60, 60)).save(file, "PNG")
        answer = session.sagemaker_runtime_client.invoke_endpoint(
            Body=file.getvalue(),
            EndpointName="endpoint",
            ContentType="image/png",
            Accept="application/json",
            CustomAttributes="trace=1",
        )
        body = json.loads(answer["Body"].read())
        answer["Body"].release_conn()
    finally:
        client.delete_endpoint(EndpointName="endpoint")
    assert body["predictions"][0]["label"] in LABELS
    headers = {k.lower(): v for k, v in answer["ResponseMetadata"]["HTTPHeaders"].items()}
    assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=1"

    folder = image_folder / "validation" / "red"
    client.create_transform_job(
        TransformJobName="transform",
        ModelName="model",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3Uri": folder.as_uri()}},
            "ContentType": "image/png",
        },
        TransformOutput={"S3OutputPath": (tmp_path / "transformed").as_uri()},
        TransformResources={"InstanceType": "local", "InstanceCount": 1},
        BatchStrategy="SingleRecord",
    )
    written = {path.name: path for path in (tmp_path / "transformed").rglob("*.out")}
    assert set(written) == {f"{path.name}.out" for path in folder.iterdir()}
    for path in written.values():
        assert json.loads(path.read_text())["predictions"][0]["label"] in LABELS


def test_two_hosts_train_one_model_with_sdk_v3(
    session: Any,
    image: str,
    channels: dict[str, Path],
    quick: dict[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    request = training_request(image, channels, tmp_path / "out", quick, 2)
    session.sagemaker_client.create_training_job(**request)
    logs = capfd.readouterr().out
    assert "2 processes" in logs
    assert len(re.findall(r"epoch=1; train:loss", logs)) == 1
    job = session.sagemaker_client.describe_training_job(TrainingJobName="local-mode")
    model = unpack(job["ModelArtifacts"]["S3ModelArtifacts"], tmp_path / "model")
    assert (model / "model.safetensors").exists()


def test_model_trainer_of_sdk_v3(
    image: str, image_folder: Path, quick: dict[str, str], tmp_path: Path
) -> None:
    """SDK v3's ModelTrainer sends JSON-encoded hyperparameters and sets no command."""
    from sagemaker.core.training.configs import Compute, InputData
    from sagemaker.train import ModelTrainer
    from sagemaker.train.model_trainer import Mode

    root = tmp_path / "containers"
    root.mkdir()
    trainer = ModelTrainer(
        training_mode=Mode.LOCAL_CONTAINER,
        training_image=image,
        role=ROLE,
        compute=Compute(instance_type="local_cpu", instance_count=1),
        hyperparameters={"image_size": 32, "epochs": 1, "freeze": False, **quick},
        environment=dict(ONE_THREAD),
        local_container_root=str(root),
    )
    trainer.train(
        input_data_config=[
            InputData(channel_name=name, data_source=str(image_folder / name))
            for name in ("train", "validation")
        ],
        wait=True,
    )
    model = unpack(str(root / "compressed_artifacts" / "model.tar.gz"), tmp_path / "model")
    assert json.loads((model / "model.json").read_text())["classes"] == ["blue", "green", "red"]

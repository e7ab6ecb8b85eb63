"""The local SageMaker recovers from spot interruptions, a killed server and a restart."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from local.emulator.credentials import credentials
from local.emulator.home import Home
from tests.training_requests import ROLE, training

pytestmark = pytest.mark.timeout(900)

IMAGE = "berth:latest"
BUCKET = "stripes"
SMALL = {
    "arch": "shufflenet_v2_x0_5",
    "weights": "none",
    "image_size": "32",
    "batch_size": "8",
    "workers": "0",
}
RANDOM = SMALL | {
    "epochs": "8",
    "augment": "strong",
    "mixup": "0.2",
    "cutmix": "0.5",
    "dropout": "0.3",
    "ema": "0.9",
    "learning_rate": "0.004",
    "warmup_epochs": "0.5",
    "checkpoint_minutes": "0.000001",
}
"""All options that draw random numbers or keep state; a checkpoint after every step."""


class Local:
    """A local SageMaker with its own home, controlled with the `berth` command and boto3."""

    def __init__(self, home: Path, executor: str, preloaded: dict[str, str]) -> None:
        self.home, self.executor, self.preloaded = home, executor, preloaded
        self._clients: dict[tuple[str, str], Any] = {}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "BERTH_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            **preloaded,
        }

    def berth(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "local.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        self.berth("up", "--executor", self.executor, "--port", "0")

    @property
    def server(self) -> dict[str, Any]:
        return json.loads((self.home / "server.json").read_text())

    def client(self, service: str) -> Any:
        url = self.server["url"]
        if (service, url) not in self._clients:
            self._clients[service, url] = boto3.client(
                service,
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id=credentials(Home(self.home)).key_id,
                aws_secret_access_key=credentials(Home(self.home)).secret,
            )
        return self._clients[service, url]

    def upload(self, folder: Path) -> None:
        s3 = self.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.rglob("*.png")):
            s3.upload_file(str(path), BUCKET, f"data/{path.relative_to(folder)}")

    def train(
        self, name: str, hyperparameters: dict[str, str], *, served: bool = False, **more: Any
    ) -> None:
        """Create a training job; as a process it converts to OpenVINO only if `served`."""
        request = definition(more.pop("StoppingCondition", {"MaxRuntimeInSeconds": 3600}))
        if self.executor == "process" and not served:
            folders = filter(None, [self.preloaded.get("PYTHONPATH"), str(Path(__file__).parent)])
            request["Environment"] |= {
                "SAGEMAKER_TRAINING_MODULE": "unexported:main",
                "PYTHONPATH": os.pathsep.join(folders),
            }
        self.client("sagemaker").create_training_job(
            TrainingJobName=name, HyperParameters=hyperparameters, **request, **more
        )

    def training(self, name: str) -> dict[str, Any]:
        return self.client("sagemaker").describe_training_job(TrainingJobName=name)

    def trained(self, name: str) -> dict[str, Any]:
        wait_until(lambda: self.training(name)["TrainingJobStatus"] != "InProgress")
        job = self.training(name)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        return job

    def events(self, name: str, after: str = "/") -> list[dict[str, Any]]:
        pages = (
            self.client("logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name + after)
        )
        return [event for page in pages for event in page["events"]]

    def log(self, name: str, after: str = "/") -> str:
        return "\n".join(event["message"] for event in self.events(name, after))

    def streams(self, name: str) -> list[str]:
        """A job's log streams, one for each start."""
        return sorted({event["logStreamName"] for event in self.events(name)})

    def weights(self, name: str) -> bytes:
        key = f"out/{name}/output/model.tar.gz"
        body = self.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            for member in archive:
                if member.name.endswith("model.safetensors"):
                    return archive.extractfile(member).read()
        raise AssertionError(f"{key} holds no model.safetensors")

    def running(self) -> set[str]:
        """The ids of this home's processes or containers."""
        if self.executor == "docker":
            import docker

            engine = docker.from_env()
            try:
                return {
                    container.id
                    for container in engine.containers.list(all=True, ignore_removed=True)
                    if any(
                        str(self.home) in mount.get("Source", "")
                        for mount in container.attrs["Mounts"]
                    )
                }
            finally:
                engine.close()
        found = set()
        for process in psutil.process_iter():
            try:
                base = process.environ().get("SAGEMAKER_BASE_DIR", "")
            except psutil.Error:
                continue
            if base.startswith(str(self.home)) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(f"{process.pid}:{process.create_time()}")
        return found


def definition(stopping: dict[str, int]) -> dict[str, Any]:
    accuracy = {"Name": "validation:accuracy", "Regex": "validation:accuracy=(.*?);"}
    return training(IMAGE, BUCKET, "data", metrics=[accuracy], stopping=stopping)


def wait_until(condition: Callable[[], Any], limit: float = 400) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit} s in vain"
        time.sleep(0.1)


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def local(
    request: pytest.FixtureRequest, tmp_path: Path, stripes: Path, preloaded: dict[str, str]
) -> Iterator[Local]:
    local = Local(tmp_path / "home", request.param, preloaded)
    local.up()
    try:
        local.upload(stripes)
        yield local
    finally:
        local.berth("down")
    assert not local.running()


def test_a_job_resumes_with_the_same_result_after_a_spot_interruption(local: Local) -> None:
    local.train("whole", RANDOM)
    local.trained("whole")
    name = "spot"
    local.train(
        name,
        RANDOM,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600},
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
    )
    wait_until(lambda: "epoch=1;" in local.log(name))
    local.client("sagemaker").add_tags(
        ResourceArn=local.training(name)["TrainingJobArn"],
        Tags=[{"Key": "berth:interrupt-after", "Value": "0.01"}],
    )
    job = local.trained(name)
    assert "resuming from the checkpoint" in local.log(name)
    assert local.weights(name) == local.weights("whole")
    statuses = [step["Status"] for step in job["SecondaryStatusTransitions"]]
    assert statuses.count("Interrupted") == 1
    assert statuses.index("Interrupted") < len(statuses) - 1 - statuses[::-1].index("Training")
    first, second = local.streams(name)
    assert first != second
    kept = local.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"checkpoints/{name}/")
    assert any(item["Key"].endswith(".safetensors") for item in kept["Contents"])


def serve(local: Local, name: str) -> None:
    client = local.client("sagemaker")
    client.create_model(
        ModelName=name,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{BUCKET}/out/{name}/output/model.tar.gz",
        },
        ExecutionRoleArn=ROLE,
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(local, name)


def in_service(local: Local, name: str) -> None:
    client = local.client("sagemaker")
    wait_until(lambda: client.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService")


def invoke(local: Local, name: str, image: bytes) -> dict[str, Any]:
    answer = local.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, ContentType="image/png", Body=image
    )
    return json.loads(answer["Body"].read())["predictions"][0]


def test_jobs_and_endpoints_resume_after_a_killed_server_without_orphans(
    local: Local, stripes: Path
) -> None:
    image = (stripes / "validation" / "down" / "00.png").read_bytes()
    local.train("first", SMALL | {"epochs": "1"}, served=True)
    local.trained("first")
    serve(local, "first")
    before = invoke(local, "first", image)

    local.train("long", SMALL | {"epochs": "5000", "checkpoint_minutes": "0.000001"})
    client = local.client("sagemaker")
    client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tuning",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "RandomSeed": 1,
            "HyperParameterTuningJobObjective": {
                "Type": "Maximize",
                "MetricName": "validation:accuracy",
            },
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {"Name": "learning_rate", "MinValue": "0.001", "MaxValue": "0.1"}
                ]
            },
        },
        TrainingJobDefinition={
            "StaticHyperParameters": SMALL | {"epochs": "3"},
            **definition({"MaxRuntimeInSeconds": 3600}),
        },
    )
    wait_until(lambda: "epoch=1;" in local.log("long"))
    wait_until(lambda: "network:" in local.log("tuning-001-", after=""))
    keys = {item["Key"] for item in local.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]}
    orphans = local.running()
    assert len(orphans) >= 3

    os.kill(local.server["pid"], signal.SIGKILL)
    local.up()

    assert not orphans & local.running()
    assert keys <= {
        item["Key"] for item in local.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    }
    in_service(local, "first")
    assert invoke(local, "first", image) == before
    client = local.client("sagemaker")

    def tuning() -> dict[str, Any]:
        return client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuning")

    statuses = [s["Status"] for s in local.training("long")["SecondaryStatusTransitions"]]
    assert "Interrupted" in statuses
    wait_until(lambda: "resuming from the checkpoint" in local.log("long"))
    client.stop_training_job(TrainingJobName="long")

    wait_until(lambda: tuning()["HyperParameterTuningJobStatus"] != "InProgress")
    assert tuning()["HyperParameterTuningJobStatus"] == "Completed", tuning()
    assert tuning()["TrainingJobStatusCounters"]["Completed"] == 2
    wait_until(lambda: local.training("long")["TrainingJobStatus"] == "Stopped", 150)


def test_jobs_and_endpoints_resume_after_down_and_up(local: Local, stripes: Path) -> None:
    image = (stripes / "validation" / "down" / "00.png").read_bytes()
    local.train("first", SMALL | {"epochs": "1"}, served=True)
    local.trained("first")
    log = local.log("first")
    serve(local, "first")
    before = invoke(local, "first", image)
    local.train("long", RANDOM | {"epochs": "5000"})
    wait_until(lambda: "epoch=1;" in local.log("long"))

    local.berth("down")
    assert not local.running()
    local.up()

    assert local.training("first")["TrainingJobStatus"] == "Completed"
    assert local.log("first") == log
    in_service(local, "first")
    assert invoke(local, "first", image) == before
    wait_until(lambda: "resuming from the checkpoint" in local.log("long"))
    local.client("sagemaker").stop_training_job(TrainingJobName="long")
    wait_until(lambda: local.training("long")["TrainingJobStatus"] == "Stopped", 150)

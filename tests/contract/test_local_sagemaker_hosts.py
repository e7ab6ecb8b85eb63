"""Training jobs on two hosts of the local SageMaker, with the real image and a network per job.

Only the Docker executor can run several hosts.
"""

import contextlib
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import docker
from local.emulator import daemon
from local.emulator.credentials import credentials
from local.emulator.daemon import Address
from local.emulator.home import Home
from tests.training_requests import training

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

BUCKET = "photos"
LIMIT = 400
"""Time limit of a job in seconds; it takes about 12 on an idle machine."""


@pytest.fixture(scope="module")
def sagemaker(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    home = Home.find(tmp_path_factory.mktemp("hosts") / "home")
    yield daemon.up(home, port=0, executor="docker")
    daemon.down(home)


@pytest.fixture(scope="module")
def bucket(sagemaker: Address, image_folder: Path) -> str:
    s3 = client(sagemaker, "s3")
    s3.create_bucket(Bucket=BUCKET)
    for path in sorted(image_folder.rglob("*.png")):
        s3.upload_file(str(path), BUCKET, f"data/{path.relative_to(image_folder)}")
    return BUCKET


def client(sagemaker: Address, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=sagemaker.url,
        region_name="us-east-1",
        aws_access_key_id=credentials(Home(sagemaker.home)).key_id,
        aws_secret_access_key=credentials(Home(sagemaker.home)).secret,
    )


def request(name: str, image: str, hyperparameters: dict[str, str], *, isolated: bool) -> Any:
    return {
        "TrainingJobName": name,
        "HyperParameters": hyperparameters,
        "EnableNetworkIsolation": isolated,
        **training(image, BUCKET, "data", instances=2, stopping={"MaxRuntimeInSeconds": LIMIT}),
    }


def log_of(sagemaker: Address, name: str, host: str) -> str:
    pages = (
        client(sagemaker, "logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/{host}-")
    )
    return "\n".join(event["message"] for page in pages for event in page["events"])


def model_of(sagemaker: Address, name: str) -> dict[str, bytes]:
    body = client(sagemaker, "s3").get_object(Bucket=BUCKET, Key=f"out/{name}/output/model.tar.gz")[
        "Body"
    ]
    with tarfile.open(fileobj=io.BytesIO(body.read())) as archive:
        return {
            member.name: archive.extractfile(member).read() for member in archive if member.isfile()
        }


def of_home(found: list[Any], home: Path) -> list[Any]:
    return [each for each in found if each.name.startswith(f"berth-{Home(home).id}-")]


@pytest.fixture(scope="module")
def models() -> dict[bool, bytes]:
    """The weights of the finished jobs, by whether the network was isolated."""
    return {}


@pytest.mark.parametrize("isolated", [False, True], ids=["connected", "isolated"])
def test_two_hosts_train_one_model_with_boto3(
    sagemaker: Address,
    bucket: str,
    image: str,
    quick: dict[str, str],
    engine: docker.DockerClient,
    models: dict[bool, bytes],
    isolated: bool,
) -> None:
    name = "isolated" if isolated else "connected"
    jobs = client(sagemaker, "sagemaker")
    jobs.create_training_job(**request(name, image, quick | {"batch_size": "4"}, isolated=isolated))
    seen: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + LIMIT
    while (job := jobs.describe_training_job(TrainingJobName=name))[
        "TrainingJobStatus"
    ] == "InProgress":
        assert time.monotonic() < deadline, job["SecondaryStatusTransitions"]
        for network in of_home(engine.networks.list(), sagemaker.home):
            with contextlib.suppress(docker.errors.NotFound):  # the job is ending
                network.reload()
            if len(network.attrs.get("Containers") or ()) == 2:
                seen[network.name] = network.attrs
        time.sleep(0.2)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")

    (attributes,) = seen.values()
    assert attributes["Internal"] is isolated
    first, second = (log_of(sagemaker, name, host) for host in ("algo-1", "algo-2"))
    assert "2 processes" in first
    assert "epoch=1; " in first
    assert second
    assert "epoch=1; " not in second, "only the first process reports"
    model = model_of(sagemaker, name)
    models[isolated] = model["model.safetensors"]
    assert len(set(models.values())) == 1, "isolation changed what was learnt"

    assert of_home(engine.networks.list(), sagemaker.home) == []
    assert of_home(engine.containers.list(all=True, ignore_removed=True), sagemaker.home) == []


def rule(name: str, **parameters: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name.lower(),
        "RuleEvaluatorImage": "any/sagemaker-debugger-rules:latest",
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }


def test_two_hosts_are_debugged_and_profiled_with_boto3(
    sagemaker: Address, bucket: str, image: str, quick: dict[str, str], tmp_path: Path
) -> None:
    jobs, s3 = client(sagemaker, "sagemaker"), client(sagemaker, "s3")
    network = quick | {"arch": "shufflenet_v2_x0_5", "batch_size": "4"}
    asked = request("watched", image, network, isolated=False) | {
        "DebugHookConfig": {
            "S3OutputPath": f"s3://{bucket}/debug",
            "HookParameters": {"save_interval": "2"},
            "CollectionConfigurations": [{"CollectionName": "losses"}],
        },
        "DebugRuleConfigurations": [
            rule("VanishingGradient", threshold="1e9"),
            rule("ExplodingTensor"),
        ],
        "ProfilerConfig": {
            "S3OutputPath": f"s3://{bucket}/profile",
            "ProfilingIntervalInMilliseconds": 100,
        },
        "ProfilerRuleConfigurations": [rule("ProfilerReport", StepOutlier_stddev="4")],
    }
    jobs.create_training_job(**asked)
    deadline = time.monotonic() + LIMIT
    while (job := jobs.describe_training_job(TrainingJobName="watched"))[
        "TrainingJobStatus"
    ] == "InProgress":
        assert time.monotonic() < deadline, job["SecondaryStatusTransitions"]
        time.sleep(0.2)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    statuses = {
        each["RuleConfigurationName"]: each["RuleEvaluationStatus"]
        for each in job["DebugRuleEvaluationStatuses"] + job["ProfilerRuleEvaluationStatuses"]
    }
    assert statuses.keys() == {"vanishinggradient", "explodingtensor", "profilerreport"}
    assert statuses["vanishinggradient"] == "IssuesFound"
    assert statuses["explodingtensor"] == "NoIssuesFound"

    for item in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket).search("Contents[]"):
        path = tmp_path / item["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, item["Key"], str(path))
    measured = tmp_path / "profile" / "watched" / "profiler-output"
    for host in ("algo-1", "algo-2"):
        assert list((measured / "system" / "incremental").rglob(f"*.{host}.json"))
        assert list((measured / "framework" / "pevents").rglob(f"*-{host}_pythontimeline.json"))
    made = tmp_path / "profile" / "watched" / "rule-output" / "profilerreport" / "profiler-output"
    assert "algo-2" in (made / "profiler-report.html").read_text()
    assert len(list((made / "profiler-reports").glob("*.json"))) == 12

    from container.monitoring.debugger.smdebug_fixes import create_trial

    trial = create_trial(str(tmp_path / "debug" / "watched" / "debug-output"))
    assert trial.tensor("CrossEntropyLoss_output_0").value(2) > 0
    assert len(trial.tensor_names(collection="gradients")) > 100
    assert trial.loaded_all_steps

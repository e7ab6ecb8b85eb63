import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from local.client.target import MADE_BY, Target
from local.errors import UserError
from tests.unit.local.command_runner import Commands

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:latest"


@pytest.fixture
def berth(moto_target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(moto_target, monkeypatch)


def train(berth: Commands, name: str) -> None:
    berth.target.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn=berth.target.role,
        OutputDataConfig={"S3OutputPath": "s3://bucket/jobs"},
        ResourceConfig={
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 5,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )


def deploy(berth: Commands, name: str, *, ours: bool) -> None:
    client = berth.target.client("sagemaker")
    owner = MADE_BY if ours else {"made-by": "somebody"}
    tags = [{"Key": key, "Value": value} for key, value in owner.items()]
    client.create_model(
        ModelName=f"{name}-model",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz"},
        ExecutionRoleArn=berth.target.role,
        Tags=tags,
    )
    client.create_endpoint_config(
        EndpointConfigName=f"{name}-config",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": f"{name}-model",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        Tags=tags,
    )
    client.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-config", Tags=tags)


def left(berth: Commands) -> dict[str, list[str]]:
    client = berth.target.client("sagemaker")
    return {
        "endpoints": [each["EndpointName"] for each in client.list_endpoints()["Endpoints"]],
        "configs": [
            each["EndpointConfigName"] for each in client.list_endpoint_configs()["EndpointConfigs"]
        ],
        "models": [each["ModelName"] for each in client.list_models()["Models"]],
    }


def listed(berth: Commands, *words: str) -> list[dict[str, Any]]:
    done = berth.run("jobs", "--json", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_all_resources_are_in_one_table(berth: Commands) -> None:
    assert "no jobs or endpoints" in berth.run("jobs").output
    train(berth, "first")
    deploy(berth, "flowers", ours=True)
    done = berth.run("jobs")
    rows = [line.split()[:3] for line in done.output.splitlines()[1:]]
    assert sorted(rows) == [
        ["endpoint", "flowers", "InService"],
        ["training", "first", "Completed"],
    ]


def test_resources_of_one_kind_and_status_as_json(berth: Commands) -> None:
    for name in ("a", "b", "c"):
        train(berth, name)
    deploy(berth, "flowers", ours=True)
    [endpoint] = listed(berth, "--kind", "endpoint")
    assert (endpoint["name"], endpoint["status"], endpoint["ended"]) == (
        "flowers",
        "InService",
        None,
    )
    assert datetime.fromisoformat(endpoint["created"]).utcoffset() is not None
    assert len(listed(berth, "--kind", "training", "--limit", "2")) == 2
    # A status that only endpoints have is not used to list jobs, whose API would refuse it.
    assert [each["name"] for each in listed(berth, "--status", "InService")] == ["flowers"]


def test_an_unknown_status_is_refused(berth: Commands) -> None:
    done = berth.run("jobs", "--status", "Wrong")
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("--status: found 'Wrong', expected one of Completed, ")
    assert "InService" in str(done.exception)
    kind = berth.run("jobs", "--kind", "endpoint", "--status", "Completed")
    assert "--status: found 'Completed'" in str(kind.exception)


def test_names_are_not_truncated_without_a_terminal(berth: Commands) -> None:
    name = "x" * 63
    train(berth, name)
    assert name in berth.run("jobs").output


def test_an_endpoint_is_deleted_with_its_configuration_and_model(berth: Commands) -> None:
    deploy(berth, "flowers", ours=True)
    deploy(berth, "pets", ours=False)
    assert berth.run("delete", "flowers", keys="n\n").exit_code == 1
    assert len(left(berth)["endpoints"]) == 2
    done = berth.run("delete", "flowers", keys="y\n")
    assert done.exit_code == 0, (done.output, done.exception)
    assert left(berth) == {
        "endpoints": ["pets"],
        "configs": ["pets-config"],
        "models": ["pets-model"],
    }


def test_all_deletes_only_resources_created_by_berth(berth: Commands) -> None:
    deploy(berth, "flowers", ours=True)
    deploy(berth, "pets", ours=False)
    done = berth.run("delete", "--all", "--yes")
    assert done.exit_code == 0, (done.output, done.exception)
    assert left(berth)["endpoints"] == ["pets"]
    assert left(berth)["models"] == ["pets-model"]
    assert "nothing to delete" in berth.run("delete", "--all", "--yes").output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["delete"], "expected names of endpoints, or --all"),
        (["delete", "flowers", "--all"], "expected names of endpoints, or --all"),
        (["delete", "first"], "first: this is a training job; only endpoints can be deleted"),
        (["delete", "nothing"], "nothing: not found"),
        (["stop", "first"], "first: not running"),
        (["stop", "nothing"], "nothing: not found (training, tuning, transform)"),
        (["logs", "nothing"], "nothing: not found (training, transform, endpoint)"),
        (["report", "nothing"], "nothing: not found (training, tuning)"),
    ],
)
def test_errors_are_reported(berth: Commands, words: list[str], line: str) -> None:
    train(berth, "first")
    done = berth.run(*words)
    assert isinstance(done.exception, UserError)
    assert line in str(done.exception)

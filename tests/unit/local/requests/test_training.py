from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from local.errors import UserError
from local.requests.training import (
    DAY,
    TrainingJobRequest,
    berth_metrics,
    check_hyperparameters,
    is_berth_image,
    merge,
)

ROLE = "arn:aws:iam::123456789012:role/berth"
PLAIN = TrainingJobRequest(
    image_uri="berth:latest",
    role=ROLE,
    channels={"train": "s3://bucket/flowers/"},
    output="s3://bucket/jobs",
)


def accepted(operation: str, request: dict[str, Any]) -> None:
    """Check the request against botocore's model."""
    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()


def source(uri: str) -> dict[str, Any]:
    return {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": uri,
            "S3DataDistributionType": "FullyReplicated",
        }
    }


def test_a_plain_job() -> None:
    request = PLAIN.request("job")
    accepted("CreateTrainingJob", request)
    assert request == {
        "TrainingJobName": "job",
        "HyperParameters": {},
        "AlgorithmSpecification": {"TrainingImage": "berth:latest", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [{"ChannelName": "train", "DataSource": source("s3://bucket/flowers/")}],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs"},
        "ResourceConfig": {
            "InstanceType": "ml.g4dn.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": DAY},
        "EnableManagedSpotTraining": False,
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
    }


def test_a_job_with_every_option() -> None:
    job = TrainingJobRequest(
        image_uri="123456789012.dkr.ecr.eu-west-1.amazonaws.com/berth:latest",
        role=ROLE,
        channels={"train": "s3://b/train/", "weights": "s3://b/resnet18.safetensors"},
        output="s3://b/jobs",
        hyperparameters={"epochs": "3"},
        metrics={"loss": "loss=(.*?);"},
        input_mode="FastFile",
        instance_type="ml.p3.2xlarge",
        instance_count=2,
        volume_gb=50,
        max_run=600,
        spot=True,
        max_wait=900,
        checkpoints="s3://b/checkpoints/job",
        interrupt_after=30,
        retries=3,
        subnets=("subnet-1", "subnet-2"),
        security_groups=("sg-1",),
        isolated=True,
        encrypted_traffic=True,
        volume_kms_key="volume-key",
        output_kms_key="output-key",
        environment={"NCCL_DEBUG": "INFO"},
        tags={"team": "plants"},
    )
    job.check()
    request = job.request("job")
    accepted("CreateTrainingJob", request)
    assert request == {
        "TrainingJobName": "job",
        "HyperParameters": {"epochs": "3"},
        "AlgorithmSpecification": {
            "TrainingImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/berth:latest",
            "TrainingInputMode": "FastFile",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*?);"}],
        },
        "RoleArn": ROLE,
        "InputDataConfig": [
            {"ChannelName": "train", "DataSource": source("s3://b/train/")},
            {"ChannelName": "weights", "DataSource": source("s3://b/resnet18.safetensors")},
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://b/jobs", "KmsKeyId": "output-key"},
        "ResourceConfig": {
            "InstanceType": "ml.p3.2xlarge",
            "InstanceCount": 2,
            "VolumeSizeInGB": 50,
            "VolumeKmsKeyId": "volume-key",
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
        "EnableManagedSpotTraining": True,
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "CheckpointConfig": {"S3Uri": "s3://b/checkpoints/job"},
        "RetryStrategy": {"MaximumRetryAttempts": 3},
        "VpcConfig": {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
        "Environment": {"NCCL_DEBUG": "INFO"},
        "Tags": [
            {"Key": "team", "Value": "plants"},
            {"Key": "berth:interrupt-after", "Value": "30"},
        ],
    }


def test_spot_waits_as_long_again_as_it_runs() -> None:
    stopping = replace(PLAIN, spot=True, max_run=100).request("job")["StoppingCondition"]
    assert stopping == {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 200}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": {}}, "channels"),
        ({"max_run": 0}, "--max-run: found 0"),
        ({"max_run": 29 * DAY}, "expected 1 to 2419200"),
        ({"max_wait": 10}, "--max-wait: needs --spot"),
        ({"spot": True, "max_wait": 10, "max_run": 20}, "at least --max-run (20)"),
        ({"interrupt_after": 5}, "--interrupt-after: needs --spot"),
        ({"subnets": ("subnet-1",)}, "both or neither"),
        ({"security_groups": ("sg-1",)}, "both or neither"),
        ({"volume_kms_key": "key"}, "--volume-kms-key: ml.g4dn.xlarge encrypts its local disks"),
        ({"hyperparameters": {"epoch": "3"}}, "did you mean 'epochs'?"),
        ({"hyperparameters": {"epochs": "0"}}, "'epochs'"),
        ({"hyperparameters": {f"x{n}": "1" for n in range(101)}}, "at most 100"),
    ],
)
def test_conflicting_options_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        replace(PLAIN, **changes).check()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("image", "ours"),
    [
        ("berth:latest", True),
        ("berth", True),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/berth:1.0", True),
        ("localhost:5000/berth@sha256:abc", True),
        ("toy:latest", False),
        ("berth/other:latest", False),
    ],
)
def test_our_image_is_known_by_its_repository(image: str, *, ours: bool) -> None:
    assert is_berth_image(image) is ours


def test_hyperparameters_of_another_image_are_not_checked() -> None:
    check_hyperparameters({"whatever": "1"}, "toy:latest")


def test_our_metric_definitions_match_the_lines_of_our_image() -> None:
    import re

    lines = (
        "epoch=2; train:loss=0.71159; train:accuracy=0.78; validation:loss=1.6e-05; "
        "validation:accuracy=0.71; learning_rate=1.84675e-05;\n"
        "test:accuracy=0.702602; test:top5=0.944238;\n"
    )
    found = {
        name: [float(value) for value in re.findall(regex, lines)]
        for name, regex in berth_metrics().items()
    }
    assert found == {
        "train:loss": [0.71159],
        "train:accuracy": [0.78],
        "validation:loss": [1.6e-05],
        "validation:accuracy": [0.71],
        "learning_rate": [1.84675e-05],
        "test:accuracy": [0.702602],
        "test:top5": [0.944238],
    }
    assert re.findall(berth_metrics()["train:loss"], "train:loss=nan;") == []


def test_later_values_replace_earlier_ones_under_any_spelling() -> None:
    before = {"learning_rate": "0.1", "epochs": "3"}
    assert merge(before, {"lr": "0.2"}, {"Epochs": "4"}) == {"lr": "0.2", "Epochs": "4"}
    twice = {"lr": "1", "learning_rate": "2"}
    assert merge(before, twice) == {"epochs": "3"} | twice  # refused, not resolved
    with pytest.raises(UserError, match="given twice"):
        check_hyperparameters(merge(twice), "berth:latest")

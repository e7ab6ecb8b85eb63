"""Parts of CreateTrainingJob and CreateHyperParameterTuningJob requests."""

from collections.abc import Sequence
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/berth"


def channel(name: str, uri: str, **changes: Any) -> dict[str, Any]:
    """A channel of all objects under an S3 prefix; `changes` update its S3DataSource."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, **changes}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def training(
    image: str,
    bucket: str,
    folder: str,
    *,
    instances: int = 1,
    metrics: Sequence[dict[str, str]] = (),
    stopping: dict[str, int],
) -> dict[str, Any]:
    """The request members that training jobs and tuning jobs share; channels are in `folder`."""
    return {
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [*metrics],
        },
        "RoleArn": ROLE,
        "InputDataConfig": [
            channel(name, f"s3://{bucket}/{folder}/{name}") for name in ("train", "validation")
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": instances,
            "VolumeSizeInGB": 10,
        },
        "StoppingCondition": stopping,
        "Environment": {"OMP_NUM_THREADS": "1"},
    }

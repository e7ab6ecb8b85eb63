"""Members of CreateTrainingJob's and CreateHyperParameterTuningJob's requests."""

from collections.abc import Sequence
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/berth"


def channel(name: str, uri: str, **changes: Any) -> dict[str, Any]:
    """A channel of every object under a prefix of S3; the changes are its S3DataSource's."""
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
    """What the requests for a job and a tuner's jobs share: training on a bucket's folder."""
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

"""The request of a batch transform job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.errors import UserError
from local.requests.hosting import check_volume_key, tagged
from local.requests.names import checked_name

CONTENT_TYPE = "application/x-image"
"""Content type of every object; the container detects formats, so a prefix may mix them."""


@dataclass(frozen=True)
class Transform:
    """A batch transform job, which writes the prediction for each object to `<object>.out`.

    The container's `/execution-parameters` set the concurrency and the largest payload.

    Attributes:
        name: the job's name.
        model: name of the model.
        source: S3 prefix of the images.
        destination: S3 prefix for the predictions.
        instance_type: the instance type.
        instance_count: number of instances.
        kms_key: KMS key of the predictions and the volumes.
        environment: environment variables of the container.
        tags: tags of the job.
    """

    name: str
    model: str
    source: str
    destination: str
    instance_type: str = "ml.m5.large"
    instance_count: int = 1
    kms_key: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject values that AWS would reject.

        Raises:
            UserError: a value is invalid; the message names the option.
        """
        checked_name(self.name)
        for option, uri in (("the source", self.source), ("--output", self.destination)):
            if not uri.startswith("s3://"):
                raise UserError(f"{option}: found {uri}, expected s3://BUCKET/PREFIX")
        if self.instance_count < 1:
            raise UserError(f"--instance-count: found {self.instance_count}, expected 1 or more")
        if self.kms_key:
            check_volume_key(self.instance_type)

    def request(self) -> dict[str, Any]:
        """The CreateTransformJob request."""
        output: dict[str, Any] = {
            "S3OutputPath": self.destination,
            "Accept": "application/json",
            "AssembleWith": "None",
        }
        resources: dict[str, Any] = {
            "InstanceType": self.instance_type,
            "InstanceCount": self.instance_count,
        }
        if self.kms_key:
            output["KmsKeyId"] = self.kms_key
            resources["VolumeKmsKeyId"] = self.kms_key
        request: dict[str, Any] = {
            "TransformJobName": self.name,
            "ModelName": self.model,
            "TransformInput": {
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": self.source},
                },
                "ContentType": CONTENT_TYPE,
                "SplitType": "None",
                "CompressionType": "None",
            },
            "TransformOutput": output,
            "TransformResources": resources,
        }
        if self.environment:
            request["Environment"] = dict(self.environment)
        return request | tagged(self.tags)

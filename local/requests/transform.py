"""A batch transform's request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.errors import UserError
from local.requests.hosting import check_volume_key, tagged
from local.requests.names import checked_name

CONTENT_TYPE = "application/x-image"
"""Of every object sent: the container looks at the bytes, so a prefix may mix formats."""


@dataclass(frozen=True)
class Transform:
    """Every object of an S3 prefix sent to a model, each answer kept as `<object>.out`.

    How many requests at once, and how large, is left to the container's `/execution-parameters`.

    Attributes:
        name: the job's name.
        model: name of the model.
        source: S3 prefix with the images.
        destination: S3 prefix for the answers.
        instance_type: of every instance.
        instance_count: how many instances.
        kms_key: encrypts answers and volumes.
        environment: environment variables of the container.
        tags: on the job.
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
        """Refuse at once what AWS would refuse later.

        Raises:
            UserError: one line naming the option.
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
        """CreateTransformJob."""
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

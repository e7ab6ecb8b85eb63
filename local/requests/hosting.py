"""The requests that create, update, scale and schedule the deletion of an endpoint.

hosting = Hosting(name="flowers", image_uri=..., model_data=..., role=..., stamp="…")
hosting.model(), hosting.endpoint_config(), hosting.endpoint()
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from local.errors import UserError
from local.requests.names import checked_name

VARIANT = "AllTraffic"
"""The production variant, named like in the SDK and the console."""
TTL_TAG = "berth:ttl"
"""An endpoint's tag: seconds after which the local SageMaker deletes it."""
GPU_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
"""The AMI with NVIDIA driver 580, which PyPI's torch needs as it is built for CUDA 13. The default
AMI of g4dn and g5 has an older one (API reference, ProductionVariant). CUDA 13 does not support the
GPUs of g2, g3, p2 and p3, so these keep their default."""
MEMORY_SIZES = (1024, 2048, 3072, 4096, 5120, 6144)
"""Memory sizes of a serverless endpoint in MB (API reference, ServerlessConfig)."""
SCHEDULE_LIMIT = 64
"""Most characters in a schedule's name (EventBridge Scheduler, API reference)."""

_NAMESPACE = re.compile(r"(?!AWS/)[0-9A-Za-z._/# -][0-9A-Za-z._/#: -]{0,254}")
_GPU = re.compile(r"ml\.[gp][4-9]")
_LOCAL_DISK = re.compile(r"ml\.(gr?[5-9]|p[5-9]|trn\d|[a-z]+\d+[a-z]*d)")


def has_gpu(instance_type: str) -> bool:
    """Whether an instance type has a GPU that CUDA 13 supports."""
    return _GPU.match(instance_type) is not None


@dataclass(frozen=True)
class Serverless:
    """Settings of a serverless endpoint: memory in MB and most concurrent invocations."""

    memory_mb: int = 4096
    concurrency: int = 5


@dataclass(frozen=True)
class Hosting:
    """An endpoint with its configuration and model.

    Attributes:
        name: the endpoint's name.
        image_uri: the serving image.
        model_data: S3 URI of the `model.tar.gz`, or the prefix of several with `multi_model`.
        role: ARN of the model's execution role.
        stamp: suffix of the model's and configuration's names, so that an update gets new ones.
        instance_type: the instance type; unused with `serverless`.
        instance_count: number of instances.
        serverless: settings of a serverless endpoint; None for instances.
        environment: environment variables of the container.
        subnets, security_groups: the VPC, both or neither.
        isolated: network isolation.
        kms_key: KMS key of the instances' volumes.
        capture_uri: S3 prefix for data capture; None for no data capture.
        capture_percent: percentage of the requests that is captured.
        async_output: S3 prefix for responses, which makes the endpoint asynchronous.
        startup_seconds: startup timeout of the container; AWS's default is 480.
        multi_model: serve every archive below `model_data`; a request names one.
        metrics_namespace: CloudWatch namespace for the prediction metrics that the container logs;
            None for no metrics.
        tags: tags of all three resources.
    """

    name: str
    image_uri: str
    model_data: str
    role: str
    stamp: str
    instance_type: str = "ml.m5.large"
    instance_count: int = 1
    serverless: Serverless | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    isolated: bool = False
    kms_key: str | None = None
    capture_uri: str | None = None
    capture_percent: int = 100
    async_output: str | None = None
    startup_seconds: int | None = None
    multi_model: bool = False
    metrics_namespace: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject values that AWS would reject.

        Raises:
            UserError: a value is invalid; the message names the option.
        """
        checked_name(self.name)
        if self.multi_model:
            self._check_multi_model()
        elif not self.model_data.startswith("s3://"):
            raise UserError(
                f"--model-data: found {self.model_data}, expected s3://BUCKET/…/model.tar.gz"
            )
        check_vpc(self.subnets, self.security_groups)
        if self.serverless:
            self._check_serverless(self.serverless)
        elif self.instance_count < 1:
            raise UserError(f"--instance-count: found {self.instance_count}, expected 1 or more")
        if self.kms_key and not self.serverless:
            check_volume_key(self.instance_type)
        if not 1 <= self.capture_percent <= 100:
            raise UserError(f"--capture-percent: found {self.capture_percent}, expected 1 to 100")
        if self.startup_seconds is not None and not 60 <= self.startup_seconds <= 3600:
            raise UserError(f"--startup: found {self.startup_seconds} s, expected 60 to 3600")
        if self.metrics_namespace is not None and not _NAMESPACE.fullmatch(self.metrics_namespace):
            raise UserError(
                f"--cloudwatch: found {self.metrics_namespace!r:.80}, expected at most 255 "
                "letters, digits, spaces and . - _ / # : that do not begin with AWS/ or a colon"
            )

    def _check_multi_model(self) -> None:
        if not self.model_data.startswith("s3://") or self.model_data.endswith((".tar.gz", ".tgz")):
            raise UserError(
                f"--multi-model: found {self.model_data}, expected s3://BUCKET/PREFIX, with the "
                "archives below it"
            )
        if not self.serverless and has_gpu(self.instance_type):
            raise UserError(
                f"--multi-model: {self.instance_type} has a GPU, where SageMaker only supports "
                "Triton's container; expected an instance type without"
            )
        for option, given in (
            ("--serverless", self.serverless),
            ("--async-output", self.async_output),
        ):
            if given:
                raise UserError(f"--multi-model: found {option} as well, expected one of them")

    def _check_serverless(self, serverless: Serverless) -> None:
        if serverless.memory_mb not in MEMORY_SIZES:
            sizes = ", ".join(map(str, MEMORY_SIZES))
            raise UserError(f"--memory: found {serverless.memory_mb} MB, expected one of {sizes}")
        if not 1 <= serverless.concurrency <= 200:
            raise UserError(f"--concurrency: found {serverless.concurrency}, expected 1 to 200")
        # The developer guide's feature exclusions of serverless endpoints.
        for option, given in (
            ("--subnet", self.subnets),
            ("--network-isolation", self.isolated),
            ("--capture", self.capture_uri),
            ("--async-output", self.async_output),
            ("--kms-key", self.kms_key),
            ("--startup", self.startup_seconds),
        ):
            if given:
                raise UserError(f"{option}: not supported by serverless endpoints; omit it")

    @property
    def resource_name(self) -> str:
        """Name of the model and the configuration: `<endpoint>-<stamp>`, 63 characters at most."""
        return f"{self.name[: 62 - len(self.stamp)].rstrip('-')}-{self.stamp}"

    def model(self) -> dict[str, Any]:
        """The CreateModel request."""
        container: dict[str, Any] = {"Image": self.image_uri, "ModelDataUrl": self.model_data}
        if self.multi_model:
            prefix = f"{self.model_data.rstrip('/')}/"
            container |= {"Mode": "MultiModel", "ModelDataUrl": prefix}
        if environment := self._metrics_environment() | dict(self.environment):
            container["Environment"] = environment
        request: dict[str, Any] = {
            "ModelName": self.resource_name,
            "PrimaryContainer": container,
            "ExecutionRoleArn": self.role,
        }
        request |= vpc(self.subnets, self.security_groups)
        if self.isolated:
            request["EnableNetworkIsolation"] = True
        return request | tagged(self.tags)

    def _metrics_environment(self) -> dict[str, str]:
        if self.metrics_namespace is None:
            return {}
        # The dimensions of the AWS/SageMaker metrics, so that one graph can show both.
        return {
            "BERTH_CLOUDWATCH_NAMESPACE": self.metrics_namespace,
            "BERTH_CLOUDWATCH_DIMENSIONS": f"EndpointName={self.name},VariantName={VARIANT}",
        }

    def endpoint_config(self) -> dict[str, Any]:
        """The CreateEndpointConfig request."""
        request: dict[str, Any] = {
            "EndpointConfigName": self.resource_name,
            "ProductionVariants": [self._variant()],
        }
        if self.capture_uri:
            request["DataCaptureConfig"] = {
                "EnableCapture": True,
                "InitialSamplingPercentage": self.capture_percent,
                "DestinationS3Uri": self.capture_uri,
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            }
        if self.async_output:
            request["AsyncInferenceConfig"] = {"OutputConfig": {"S3OutputPath": self.async_output}}
        if self.kms_key:
            request["KmsKeyId"] = self.kms_key
        return request | tagged(self.tags)

    def _variant(self) -> dict[str, Any]:
        variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": self.resource_name}
        if self.serverless:
            variant["ServerlessConfig"] = {
                "MemorySizeInMB": self.serverless.memory_mb,
                "MaxConcurrency": self.serverless.concurrency,
            }
            return variant
        variant |= {
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.instance_count,
            "InitialVariantWeight": 1.0,
        }
        if has_gpu(self.instance_type):
            variant["InferenceAmiVersion"] = GPU_AMI
        if self.startup_seconds is not None:
            variant["ContainerStartupHealthCheckTimeoutInSeconds"] = self.startup_seconds
        return variant

    def endpoint(self, ttl: timedelta | None = None) -> dict[str, Any]:
        """The CreateEndpoint request; `ttl` adds the tag for the local SageMaker."""
        tags = dict(self.tags)
        if ttl is not None:
            tags[TTL_TAG] = str(int(ttl.total_seconds()))
        return {
            "EndpointName": self.name,
            "EndpointConfigName": self.resource_name,
        } | tagged(tags)

    def update(self) -> dict[str, Any]:
        """The UpdateEndpoint request, with AWS's default of blue/green and all-at-once."""
        return {"EndpointName": self.name, "EndpointConfigName": self.resource_name}


@dataclass(frozen=True)
class Scaling:
    """Target tracking of an endpoint's number of instances.

    Attributes:
        minimum: fewest instances.
        maximum: most instances.
        calls: target per instance: invocations a minute, or queued invocations if `asynchronous`.
        asynchronous: the endpoint is asynchronous.
    """

    minimum: int
    maximum: int
    calls: float
    asynchronous: bool = False

    def __post_init__(self) -> None:
        """Reject invalid bounds and targets.

        Raises:
            UserError: a value is invalid; the message names the option.
        """
        if not 1 <= self.minimum <= self.maximum:
            raise UserError(
                f"--max-instances: found {self.maximum}, expected at least the instance count, "
                f"{self.minimum}"
            )
        if self.calls <= 0:
            raise UserError(f"--calls-per-instance: found {self.calls:g}, expected more than 0")

    def target(self, endpoint: str) -> dict[str, Any]:
        """The RegisterScalableTarget request of Application Auto Scaling."""
        return self._dimension(endpoint) | {
            "MinCapacity": self.minimum,
            "MaxCapacity": self.maximum,
        }

    def policy(self, endpoint: str) -> dict[str, Any]:
        """The PutScalingPolicy request of Application Auto Scaling."""
        return self._dimension(endpoint) | {
            "PolicyName": f"{endpoint}-{'backlog' if self.asynchronous else 'calls'}-per-instance",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": float(self.calls),
                **self._metric(endpoint),
                "ScaleOutCooldown": 60,
                "ScaleInCooldown": 300,
            },
        }

    def _metric(self, endpoint: str) -> dict[str, Any]:
        if not self.asynchronous:
            predefined = "SageMakerVariantInvocationsPerInstance"
            return {"PredefinedMetricSpecification": {"PredefinedMetricType": predefined}}
        backlog = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        }
        return {"CustomizedMetricSpecification": backlog}

    @staticmethod
    def _dimension(endpoint: str) -> dict[str, Any]:
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }


def check_volume_key(instance_type: str, option: str = "--kms-key") -> None:
    """Reject a KMS key for instances with local disks, which are always encrypted, as AWS does.

    Raises:
        UserError: the instance type has local disks.
    """
    if _LOCAL_DISK.match(instance_type):
        raise UserError(
            f"{option}: {instance_type} encrypts its local disks itself, and AWS rejects a key; "
            "omit it"
        )


def schedule_name(endpoint: str) -> str:
    """The name of an endpoint's schedule, unique and at most 64 characters long."""
    name = f"berth-ttl-{endpoint}"
    if len(name) <= SCHEDULE_LIMIT:
        return name
    digest = hashlib.sha256(endpoint.encode()).hexdigest()[:8]
    return f"{name[: SCHEDULE_LIMIT - 9]}-{digest}"


def schedule(endpoint: str, when: datetime, role: str) -> dict[str, Any]:
    """The CreateSchedule (and UpdateSchedule) request for a one-time DeleteEndpoint.

    `role` is the schedule's execution role, which must trust scheduler.amazonaws.com.
    """
    partition = role.split(":")[1]
    return {
        "Name": schedule_name(endpoint),
        "Description": f"deletes the SageMaker endpoint {endpoint}",
        "ScheduleExpression": f"at({when.astimezone(UTC):%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": f"arn:{partition}:scheduler:::aws-sdk:sagemaker:deleteEndpoint",
            "RoleArn": role,
            "Input": json.dumps({"EndpointName": endpoint}),
        },
        "ActionAfterCompletion": "DELETE",
    }


def check_vpc(subnets: Sequence[str], security_groups: Sequence[str]) -> None:
    """Check that a VPC has both subnets and security groups.

    Raises:
        UserError: one of them is missing.
    """
    if bool(subnets) != bool(security_groups):
        raise UserError("--subnet and --security-group: found one, expected both or neither")


def vpc(subnets: Sequence[str], security_groups: Sequence[str]) -> dict[str, Any]:
    """The `VpcConfig` member of a request; empty without a VPC."""
    config = {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}
    return {"VpcConfig": config} if subnets else {}


def tagged(tags: Mapping[str, str]) -> dict[str, Any]:
    """The `Tags` member of a request; empty without tags."""
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"Tags": listed} if listed else {}

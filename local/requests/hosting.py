"""An endpoint's requests: what stands behind it, how it is updated, scaled and deleted later.

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
"""The one production variant: what the SDK and the console call it."""
TTL_TAG = "berth:ttl"
"""Tag of an endpoint: seconds after which the local SageMaker deletes it."""
GPU_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
"""The hosts' system with NVIDIA's driver 580: PyPI's torch is a CUDA 13 build and needs it, while
the default for g4dn and g5 is older (API reference of ProductionVariant). CUDA 13 knows no GPU from
before those, so g2, g3, p2 and p3 are left as they are."""
MEMORY_SIZES = (1024, 2048, 3072, 4096, 5120, 6144)
"""What a serverless endpoint may have, MB (API reference of ServerlessConfig)."""
SCHEDULE_LIMIT = 64
"""Characters of a schedule's name (EventBridge Scheduler's API reference)."""

_NAMESPACE = re.compile(r"(?!AWS/)[0-9A-Za-z._/# -][0-9A-Za-z._/#: -]{0,254}")
_GPU = re.compile(r"ml\.[gp][4-9]")


def has_gpu(instance_type: str) -> bool:
    """Whether an instance type has a GPU that this image's CUDA knows."""
    return _GPU.match(instance_type) is not None


_LOCAL_DISK = re.compile(r"ml\.(gr?[5-9]|p[5-9]|trn\d|[a-z]+\d+[a-z]*d)")


@dataclass(frozen=True)
class Serverless:
    """An endpoint without instances: `memory_mb` of memory, at most `concurrency` calls at once."""

    memory_mb: int = 4096
    concurrency: int = 5


@dataclass(frozen=True)
class Hosting:
    """Everything an endpoint is made of.

    Attributes:
        name: the endpoint's name.
        image_uri: the image that serves.
        model_data: S3 URI of the `model.tar.gz`; of several, the prefix they are below.
        role: ARN of the role the container has.
        stamp: goes into the names of model and configuration, so that an update gets new ones.
        instance_type: of every instance; not used when `serverless` is given.
        instance_count: how many instances.
        serverless: no instances at all.
        environment: environment variables of the container.
        subnets, security_groups: the VPC, both or none.
        isolated: network isolation.
        kms_key: encrypts the instances' volumes.
        capture_uri: S3 prefix that keeps requests and answers; None keeps nothing.
        capture_percent: share of the requests kept.
        async_output: S3 prefix for answers: makes the endpoint asynchronous.
        metrics_namespace: CloudWatch's namespace for what the container writes of its answers into
            the log; None where it writes nothing.
        multi_model: requests name one of the archives below `model_data`.
        startup_seconds: how long a container may take until `/ping` answers 200; AWS's own is 480.
        tags: on all three resources.
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
        """Refuse at once what AWS would refuse later.

        Raises:
            UserError: one line naming the option.
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
                f"--multi-model: found {self.model_data}, expected s3://BUCKET/PREFIX, below which "
                "the archives are"
            )
        if not self.serverless and has_gpu(self.instance_type):
            raise UserError(
                f"--multi-model: {self.instance_type} has a GPU, for which SageMaker takes only "
                "Triton's container; expected an instance without"
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
                raise UserError(f"{option}: a serverless endpoint has no such thing; leave it out")

    @property
    def resource_name(self) -> str:
        """Name of the model and of the configuration: the endpoint's with the stamp, 63 at most."""
        return f"{self.name[: 62 - len(self.stamp)].rstrip('-')}-{self.stamp}"

    def model(self) -> dict[str, Any]:
        """CreateModel."""
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
        # AWS/SageMaker's own metrics have the same two, so that both fit on one graph.
        return {
            "BERTH_CLOUDWATCH_NAMESPACE": self.metrics_namespace,
            "BERTH_CLOUDWATCH_DIMENSIONS": f"EndpointName={self.name},VariantName={VARIANT}",
        }

    def endpoint_config(self) -> dict[str, Any]:
        """CreateEndpointConfig."""
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
        """CreateEndpoint; with `ttl` the tag by which the local SageMaker deletes it."""
        tags = dict(self.tags)
        if ttl is not None:
            tags[TTL_TAG] = str(int(ttl.total_seconds()))
        return {
            "EndpointName": self.name,
            "EndpointConfigName": self.resource_name,
        } | tagged(tags)

    def update(self) -> dict[str, Any]:
        """UpdateEndpoint; AWS's default is blue/green, all traffic moved at once."""
        return {"EndpointName": self.name, "EndpointConfigName": self.resource_name}


@dataclass(frozen=True)
class Scaling:
    """Between `minimum` and `maximum` instances, so that each gets about `calls` a minute.

    An asynchronous endpoint has no such metric: there `calls` are those that wait for an instance.
    """

    minimum: int
    maximum: int
    calls: float
    asynchronous: bool = False

    def __post_init__(self) -> None:
        """Refuse bounds in the wrong order.

        Raises:
            UserError: one line naming the option.
        """
        if not 1 <= self.minimum <= self.maximum:
            raise UserError(
                f"--max-instances: found {self.maximum}, expected at least the instance count, "
                f"{self.minimum}"
            )
        if self.calls <= 0:
            raise UserError(f"--calls-per-instance: found {self.calls:g}, expected more than 0")

    def target(self, endpoint: str) -> dict[str, Any]:
        """Application Auto Scaling's RegisterScalableTarget."""
        return self._dimension(endpoint) | {
            "MinCapacity": self.minimum,
            "MaxCapacity": self.maximum,
        }

    def policy(self, endpoint: str) -> dict[str, Any]:
        """Application Auto Scaling's PutScalingPolicy: target tracking."""
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
    """Refuse a KMS key for instances with local disks, as AWS does (they encrypt by themselves).

    Raises:
        UserError: one line naming the type.
    """
    if _LOCAL_DISK.match(instance_type):
        raise UserError(
            f"{option}: {instance_type} encrypts its local disks itself and AWS takes no key for "
            "them; leave the key out"
        )


def schedule_name(endpoint: str) -> str:
    """The EventBridge Scheduler's name for an endpoint's end, 64 at most and no other's."""
    name = f"berth-ttl-{endpoint}"
    if len(name) <= SCHEDULE_LIMIT:
        return name
    digest = hashlib.sha256(endpoint.encode()).hexdigest()[:8]
    return f"{name[: SCHEDULE_LIMIT - 9]}-{digest}"


def schedule(endpoint: str, when: datetime, role: str) -> dict[str, Any]:
    """EventBridge Scheduler's CreateSchedule (UpdateSchedule takes the same): one DeleteEndpoint.

    `role` is what the scheduler acts as: it must trust scheduler.amazonaws.com.
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
    """Refuse one of the two without the other.

    Raises:
        UserError: one is missing.
    """
    if bool(subnets) != bool(security_groups):
        raise UserError("--subnet and --security-group: found one, expected both or none")


def vpc(subnets: Sequence[str], security_groups: Sequence[str]) -> dict[str, Any]:
    """A request's `VpcConfig`, if there is one."""
    config = {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}
    return {"VpcConfig": config} if subnets else {}


def tagged(tags: Mapping[str, str]) -> dict[str, Any]:
    """A request's `Tags`, if there are any."""
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"Tags": listed} if listed else {}

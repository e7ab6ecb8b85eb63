import json
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from local.errors import UserError
from local.requests.hosting import GPU_AMI, Hosting, Scaling, Serverless, schedule, schedule_name

ROLE = "arn:aws:iam::123456789012:role/berth"
PLAIN: dict[str, Any] = {
    "name": "flowers",
    "image_uri": "berth:latest",
    "model_data": "s3://bucket/job/model.tar.gz",
    "role": ROLE,
    "stamp": "20260102-030405-678",
}
EVERYTHING = PLAIN | {
    "instance_type": "ml.m5.xlarge",
    "instance_count": 2,
    "environment": {"A": "1"},
    "subnets": ("subnet-1",),
    "security_groups": ("sg-1",),
    "isolated": True,
    "kms_key": "key",
    "capture_uri": "s3://bucket/capture",
    "capture_percent": 50,
    "startup_seconds": 600,
    "metrics_namespace": "Flowers",
    "tags": {"team": "a"},
}


def validate(service: str, operation: str, request: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model(service)
    shape = model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        EVERYTHING,
        PLAIN | {"serverless": Serverless(2048, 10)},
        PLAIN | {"async_output": "s3://bucket/answers"},
        EVERYTHING | {"model_data": "s3://bucket/models", "multi_model": True},
    ],
)
def test_botocore_accepts_the_requests(options: dict[str, Any]) -> None:
    hosting = Hosting(**options)
    validate("sagemaker", "CreateModel", hosting.model())
    validate("sagemaker", "CreateEndpointConfig", hosting.endpoint_config())
    validate("sagemaker", "CreateEndpoint", hosting.endpoint(timedelta(hours=2)))
    validate("sagemaker", "UpdateEndpoint", hosting.update())


def test_the_minimal_requests() -> None:
    hosting = Hosting(**PLAIN)
    assert hosting.model() == {
        "ModelName": "flowers-20260102-030405-678",
        "PrimaryContainer": {
            "Image": "berth:latest",
            "ModelDataUrl": "s3://bucket/job/model.tar.gz",
        },
        "ExecutionRoleArn": ROLE,
    }
    assert hosting.endpoint_config() == {
        "EndpointConfigName": "flowers-20260102-030405-678",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": "flowers-20260102-030405-678",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": 1.0,
            }
        ],
    }
    assert hosting.endpoint() == {
        "EndpointName": "flowers",
        "EndpointConfigName": "flowers-20260102-030405-678",
    }
    assert hosting.update() == hosting.endpoint()


def test_every_option_is_in_the_requests() -> None:
    hosting = Hosting(**EVERYTHING)
    tags = [{"Key": "team", "Value": "a"}]
    assert hosting.model() == {
        "ModelName": "flowers-20260102-030405-678",
        "PrimaryContainer": {
            "Image": "berth:latest",
            "ModelDataUrl": "s3://bucket/job/model.tar.gz",
            "Environment": {
                "BERTH_CLOUDWATCH_NAMESPACE": "Flowers",
                "BERTH_CLOUDWATCH_DIMENSIONS": "EndpointName=flowers,VariantName=AllTraffic",
                "A": "1",
            },
        },
        "ExecutionRoleArn": ROLE,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
        "Tags": tags,
    }
    config = hosting.endpoint_config()
    assert config["ProductionVariants"][0]["InitialInstanceCount"] == 2
    assert config["ProductionVariants"][0]["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
    assert config["DataCaptureConfig"] == {
        "EnableCapture": True,
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": "s3://bucket/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    assert config["KmsKeyId"] == "key"
    assert config["Tags"] == tags
    ttl = {"Key": "berth:ttl", "Value": "5400"}
    assert hosting.endpoint(timedelta(minutes=90))["Tags"] == [*tags, ttl]


def test_serverless_has_no_instances() -> None:
    variant = Hosting(**PLAIN, serverless=Serverless(2048, 10)).endpoint_config()
    assert variant["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "ModelName": "flowers-20260102-030405-678",
            "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 10},
        }
    ]


@pytest.mark.parametrize(
    ("kind", "gpu"),
    [
        ("ml.g4dn.xlarge", True),
        ("ml.g5.2xlarge", True),
        ("ml.p5.48xlarge", True),
        ("ml.p3.2xlarge", False),
        ("ml.m5.large", False),
        ("ml.c5.xlarge", False),
        ("ml.inf2.xlarge", False),
    ],
)
def test_gpu_hosts_get_the_driver_torch_needs(kind: str, gpu: bool) -> None:
    (variant,) = Hosting(**PLAIN, instance_type=kind).endpoint_config()["ProductionVariants"]
    assert variant.get("InferenceAmiVersion") == (GPU_AMI if gpu else None)


def test_a_long_name_is_shortened_for_the_timestamp() -> None:
    hosting = Hosting(**PLAIN | {"name": "a" * 42 + "-" + "b" * 16})
    assert hosting.resource_name == "a" * 42 + "-20260102-030405-678"
    assert len(Hosting(**PLAIN | {"name": "a" * 63}).resource_name) == 63


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "no_underscore"}, "--name: found 'no_underscore'"),
        ({"name": "a" * 64}, "--name"),
        ({"name": "a-" * 32 + "b"}, "--name"),
        ({"model_data": "/tmp/model.tar.gz"}, "--model-data: found /tmp/model.tar.gz"),
        ({"subnets": ("subnet-1",)}, "--subnet and --security-group: found one"),
        ({"instance_count": 0}, "--instance-count: found 0"),
        ({"capture_percent": 101}, "--capture-percent: found 101"),
        ({"startup_seconds": 30}, "--startup: found 30 s"),
        ({"kms_key": "k", "instance_type": "ml.g4dn.xlarge"}, "--kms-key: ml.g4dn.xlarge"),
        ({"kms_key": "k", "instance_type": "ml.g5.xlarge"}, "--kms-key: ml.g5.xlarge"),
        ({"kms_key": "k", "instance_type": "ml.gr6.4xlarge"}, "--kms-key: ml.gr6.4xlarge"),
        ({"serverless": Serverless(3000)}, "--memory: found 3000 MB"),
        ({"serverless": Serverless(concurrency=0)}, "--concurrency: found 0"),
        (
            {"serverless": Serverless(), "isolated": True},
            "--network-isolation: not supported by serverless",
        ),
        (
            {"serverless": Serverless(), "capture_uri": "s3://b/c"},
            "--capture: not supported by serverless",
        ),
    ],
)
def test_options_that_aws_would_refuse_are_refused_at_once(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        Hosting(**PLAIN | change)


def test_scaling_tracks_invocations_per_instance() -> None:
    scaling = Scaling(1, 4, 300)
    dimension = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/flowers/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    assert scaling.target("flowers") == dimension | {"MinCapacity": 1, "MaxCapacity": 4}
    policy = scaling.policy("flowers")
    assert policy | dimension == policy
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 300.0
    validate("application-autoscaling", "RegisterScalableTarget", scaling.target("flowers"))
    validate("application-autoscaling", "PutScalingPolicy", policy)
    with pytest.raises(UserError, match="--max-instances: found 1, expected at least"):
        Scaling(2, 1, 300)
    with pytest.raises(UserError, match="--calls-per-instance"):
        Scaling(1, 2, 0)


def test_an_asynchronous_endpoint_scales_by_its_backlog() -> None:
    request = Scaling(1, 4, 5, asynchronous=True).policy("flowers")
    validate("application-autoscaling", "PutScalingPolicy", request)
    assert request["PolicyName"] == "flowers-backlog-per-instance"
    tracking = request["TargetTrackingScalingPolicyConfiguration"]
    assert "PredefinedMetricSpecification" not in tracking
    metric = tracking["CustomizedMetricSpecification"]
    assert metric["MetricName"] == "ApproximateBacklogSizePerInstance"
    assert metric["Dimensions"] == [{"Name": "EndpointName", "Value": "flowers"}]


def test_a_deletion_is_one_schedule_that_deletes_itself() -> None:
    request = schedule("flowers", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), ROLE)
    assert request["ScheduleExpression"] == "at(2026-01-02T03:04:05)"
    assert request["ScheduleExpressionTimezone"] == "UTC"
    assert request["ActionAfterCompletion"] == "DELETE"
    assert request["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"
    assert json.loads(request["Target"]["Input"]) == {"EndpointName": "flowers"}
    validate("scheduler", "CreateSchedule", request)


def test_two_long_names_have_two_schedules() -> None:
    assert schedule_name("a" * 54) == "berth-ttl-" + "a" * 54
    names = {schedule_name("a" * 62 + last) for last in "bc"}
    assert len(names) == 2
    assert {len(name) for name in names} == {64}


@pytest.mark.parametrize("prefix", ["s3://bucket/models", "s3://bucket/models/"])
def test_a_multi_model_endpoint_has_a_prefix(prefix: str) -> None:
    hosting = Hosting(**PLAIN | {"model_data": prefix, "multi_model": True})
    assert hosting.model()["PrimaryContainer"] == {
        "Image": "berth:latest",
        "Mode": "MultiModel",
        "ModelDataUrl": "s3://bucket/models/",
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_data": "models"}, "found models, expected s3://BUCKET/PREFIX"),
        ({"model_data": "s3://bucket/model.tar.gz"}, "found s3://bucket/model.tar.gz, expected"),
        ({"instance_type": "ml.g5.xlarge"}, "ml.g5.xlarge has a GPU"),
        ({"serverless": Serverless()}, "found --serverless as well"),
        ({"async_output": "s3://bucket/answers"}, "found --async-output as well"),
    ],
)
def test_options_that_a_multi_model_endpoint_cannot_have(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=f"--multi-model: {named}"):
        Hosting(**PLAIN | {"model_data": "s3://bucket/models", "multi_model": True} | changes)

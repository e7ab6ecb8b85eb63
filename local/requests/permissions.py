"""IAM policies derived from requests: one for the caller, one for the execution role."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.log_groups import ENDPOINTS, TRAINING_JOBS, TRANSFORM_JOBS
from local.partitions import partition

Request = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Operation:
    """The permissions that an operation needs.

    Attributes:
        service: IAM's service prefix.
        resource: the resource part of the ARN, with a member of the request in braces; `*` if the
            action does not support resource-level permissions.
        also: more actions on the same resource, for following it and cleaning up.
        logs: the log group to read when following it.
        second: a second resource that the operation is authorized on.
    """

    service: str
    resource: str
    also: tuple[str, ...] = ()
    logs: str | None = None
    second: str | None = None


OPERATIONS: Mapping[str, Operation] = {
    "CreateTrainingJob": Operation(
        "sagemaker",
        "training-job/{TrainingJobName}",
        ("DescribeTrainingJob", "StopTrainingJob"),
        TRAINING_JOBS,
    ),
    "CreateHyperParameterTuningJob": Operation(
        "sagemaker",
        "hyper-parameter-tuning-job/{HyperParameterTuningJobName}",
        (
            "DescribeHyperParameterTuningJob",
            "StopHyperParameterTuningJob",
            "ListTrainingJobsForHyperParameterTuningJob",
            "DescribeTrainingJob",
        ),
        TRAINING_JOBS,
        "training-job/{HyperParameterTuningJobName}-*",
    ),
    "CreateTransformJob": Operation(
        "sagemaker",
        "transform-job/{TransformJobName}",
        ("DescribeTransformJob", "StopTransformJob"),
        TRANSFORM_JOBS,
    ),
    "CreateModel": Operation("sagemaker", "model/{ModelName}", ("DescribeModel", "DeleteModel")),
    "CreateEndpointConfig": Operation(
        "sagemaker",
        "endpoint-config/{EndpointConfigName}",
        ("DescribeEndpointConfig", "DeleteEndpointConfig"),
    ),
    "CreateEndpoint": Operation(
        "sagemaker",
        "endpoint/{EndpointName}",
        ("DescribeEndpoint", "DeleteEndpoint"),
        f"{ENDPOINTS}/{{EndpointName}}",
        "endpoint-config/{EndpointConfigName}",
    ),
    "UpdateEndpoint": Operation(
        "sagemaker",
        "endpoint/{EndpointName}",
        ("DescribeEndpoint",),
        f"{ENDPOINTS}/{{EndpointName}}",
        "endpoint-config/{EndpointConfigName}",
    ),
    "InvokeEndpoint": Operation("sagemaker", "endpoint/{EndpointName}", ("DescribeEndpoint",)),
    # Deleting the endpoint deregisters the target with the caller's permissions.
    "RegisterScalableTarget": Operation(
        "application-autoscaling", "*", ("DeregisterScalableTarget",)
    ),
    "PutScalingPolicy": Operation("application-autoscaling", "*"),
    "CreateSchedule": Operation(
        "scheduler", "schedule/default/{Name}", ("UpdateSchedule", "DeleteSchedule")
    ),
    "CreateRepository": Operation(
        "ecr",
        "repository/{repositoryName}",
        (
            "DescribeRepositories",
            "BatchCheckLayerAvailability",
            "InitiateLayerUpload",
            "UploadLayerPart",
            "CompleteLayerUpload",
            "PutImage",
            "BatchGetImage",
            "GetDownloadUrlForLayer",
        ),
    ),
    "PutLifecyclePolicy": Operation("ecr", "repository/{repositoryName}"),
    "AddTags": Operation("sagemaker", "*"),
    "StopTrainingJob": Operation("sagemaker", "training-job/{TrainingJobName}"),
    "StopHyperParameterTuningJob": Operation(
        "sagemaker", "hyper-parameter-tuning-job/{HyperParameterTuningJobName}"
    ),
    "StopTransformJob": Operation("sagemaker", "transform-job/{TransformJobName}"),
    "DeleteModel": Operation("sagemaker", "model/{ModelName}"),
    "DeleteEndpointConfig": Operation("sagemaker", "endpoint-config/{EndpointConfigName}"),
    "DeleteEndpoint": Operation("sagemaker", "endpoint/{EndpointName}", ("DescribeEndpoint",)),
    "DeleteSchedule": Operation("scheduler", "schedule/default/{Name}"),
}
"""Every operation berth calls, except `S3_OPERATIONS`."""

TRACKING = (
    "CreateExperiment",
    "CreateRun",
    "DeleteRun",
    "GetExperimentByName",
    "GetMetricHistory",
    "GetRun",
    "LogBatch",
    "SearchRuns",
    "SetTag",
    "UpdateRun",
)
"""Actions of a job that logs to SageMaker's managed MLflow."""
S3_OPERATIONS = ("CreateBucket", "PutObject", "DeleteObject")

ARN_PREFIX = "arn:aws:"
_ECR_IMAGE = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[^.]+)\.[^/]+/(?P<name>[^:@]+)")
_S3 = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<key>.*)")


class _Policy:
    """A policy with one statement per service and resource.

    Args:
        region: the region, whose partition replaces `aws` in the ARNs.
    """

    def __init__(self, region: str) -> None:
        self._prefix = f"arn:{partition(region)}:"
        self._statements: dict[tuple[str, tuple[str, ...], str], set[str]] = {}

    def add(
        self, actions: Iterable[str], *resources: str, condition: dict[str, Any] | None = None
    ) -> None:
        resources = tuple(
            self._prefix + resource.removeprefix(ARN_PREFIX)
            if resource.startswith(ARN_PREFIX)
            else resource
            for resource in resources
        )
        for action in actions:
            key = (action.partition(":")[0], resources, json.dumps(condition))
            self._statements.setdefault(key, set()).add(action)

    def json(self) -> dict[str, Any]:
        statements: list[dict[str, Any]] = []
        for (_, resources, condition), actions in self._statements.items():
            statement: dict[str, Any] = {
                "Effect": "Allow",
                "Action": sorted(actions),
                "Resource": resources[0] if len(resources) == 1 else list(resources),
            }
            if json.loads(condition):
                statement["Condition"] = json.loads(condition)
            statements.append(statement)
        return {"Version": "2012-10-17", "Statement": statements}


def caller_policy(requests: Sequence[Request], *, region: str, account: str) -> dict[str, Any]:
    """The policy for the caller, who also follows the jobs and reads their outputs."""
    policy = _Policy(region)
    for operation, request in requests:
        if operation in S3_OPERATIONS:
            _allow_s3(policy, operation, request)
            continue
        facts = OPERATIONS[operation]
        resources = [
            _arn(facts.service, resource, request, region, account)
            for resource in (facts.resource, facts.second)
            if resource
        ]
        actions = [operation, *facts.also]
        if facts.service == "sagemaker" and request.get("Tags"):
            actions += ["AddTags"]
        policy.add((f"{facts.service}:{action}" for action in actions), *resources)
        _service_extras(policy, operation, request, region, account)
        if facts.logs:
            group = facts.logs.format_map(request)
            policy.add(
                ("logs:DescribeLogStreams", "logs:GetLogEvents", "logs:FilterLogEvents"),
                f"arn:aws:logs:{region}:{account}:log-group:{group}:*",
            )
        _allow_pass_role(policy, operation, request)
        for uri in _outputs(request):
            policy.add(("s3:GetObject",), f"{_bucket_arn(uri)}/{_key(uri)}*")
            policy.add(("s3:ListBucket",), _bucket_arn(uri))
    return policy.json()


def role_policy(requests: Sequence[Request], *, region: str, account: str) -> dict[str, Any]:
    """The policy for the execution role of jobs and endpoints."""
    policy = _Policy(region)
    for operation, request in requests:
        if operation == "CreateSchedule":
            name = json.loads(request["Target"]["Input"])["EndpointName"].lower()
            policy.add(
                ("sagemaker:DeleteEndpoint",),
                f"arn:aws:sagemaker:{region}:{account}:endpoint/{name}",
            )
            if any(operation == "RegisterScalableTarget" for operation, _ in requests):
                policy.add(("application-autoscaling:DeregisterScalableTarget",), "*")
        if operation in S3_OPERATIONS or OPERATIONS[operation].service != "sagemaker":
            continue
        for image in _find(request, ("TrainingImage", "Image", "RuleEvaluatorImage")):
            _allow_pull(policy, image)
        for uri in _inputs(request):
            policy.add(("s3:GetObject",), f"{_bucket_arn(uri)}/{_key(uri)}*")
            policy.add(("s3:ListBucket",), _bucket_arn(uri))
        for uri in _outputs(request):
            policy.add(("s3:GetObject", "s3:PutObject"), f"{_bucket_arn(uri)}/{_key(uri)}*")
            policy.add(("s3:ListBucket",), _bucket_arn(uri))
        if operation in ("CreateTrainingJob", "CreateHyperParameterTuningJob", "CreateModel"):
            policy.add(
                (
                    "logs:CreateLogGroup",
                    "logs:CreateLogStream",
                    "logs:DescribeLogStreams",
                    "logs:PutLogEvents",
                ),
                f"arn:aws:logs:{region}:{account}:log-group:/aws/sagemaker/*",
            )
            policy.add(
                ("cloudwatch:PutMetricData",),
                "*",
                condition={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*"]}},
            )
        for key in _find(request, ("KmsKeyId", "VolumeKmsKeyId")):
            policy.add(
                ("kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*"),
                _key_arn(key, region, account),
            )
        for uri in _find(request, ("MLFLOW_TRACKING_URI",)):
            if uri.startswith("arn:"):
                policy.add((f"sagemaker-mlflow:{action}" for action in TRACKING), uri)
            if ":mlflow-app/" in uri:
                policy.add(("sagemaker:CallMlflowAppApi",), uri)
        if any("stoptraining" in action for action in _find(request, ("action_json",))):
            policy.add(("sagemaker:ListTrainingJobs",), "*")
            job = _arn("sagemaker", "training-job/{TrainingJobName}", request, region, account)
            policy.add(("sagemaker:StopTrainingJob",), job)
        if any(_find(request, ("VpcConfig",))):
            policy.add(
                (
                    "ec2:CreateNetworkInterface",
                    "ec2:CreateNetworkInterfacePermission",
                    "ec2:DeleteNetworkInterface",
                    "ec2:DeleteNetworkInterfacePermission",
                    "ec2:DescribeDhcpOptions",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSecurityGroups",
                    "ec2:DescribeSubnets",
                    "ec2:DescribeVpcs",
                ),
                "*",
            )
    return policy.json()


def _arn(service: str, resource: str, request: Mapping[str, Any], region: str, account: str) -> str:
    if resource == "*":
        return "*"
    name = resource.format_map(request)
    # Names in SageMaker's ARNs are lower-case.
    if service == "sagemaker":
        name = name.lower()
    return f"arn:aws:{service}:{region}:{account}:{name}"


def _service_extras(
    policy: _Policy, operation: str, request: Mapping[str, Any], region: str, account: str
) -> None:
    if operation == "CreateRepository":
        policy.add(("ecr:GetAuthorizationToken",), "*")
        if request.get("tags"):
            policy.add(("ecr:TagResource",), f"arn:aws:ecr:{region}:{account}:repository/*")
    if operation == "RegisterScalableTarget":
        policy.add(
            (
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:UpdateEndpointWeightsAndCapacities",
            ),
            f"arn:aws:sagemaker:{region}:{account}:endpoint/*",
        )
        policy.add(
            ("cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:PutMetricAlarm"),
            f"arn:aws:cloudwatch:{region}:{account}:alarm:TargetTracking-*",
        )
        policy.add(
            ("iam:CreateServiceLinkedRole",),
            "arn:aws:iam::*:role/aws-service-role/"
            "sagemaker.application-autoscaling.amazonaws.com/*",
        )


def _allow_pass_role(policy: _Policy, operation: str, request: Mapping[str, Any]) -> None:
    service = "scheduler" if operation == "CreateSchedule" else "sagemaker"
    condition = {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}}
    for arn in _find(request, ("RoleArn", "ExecutionRoleArn")):
        policy.add(("iam:PassRole",), arn, condition=condition)


def _allow_s3(policy: _Policy, operation: str, request: Mapping[str, Any]) -> None:
    bucket = f"arn:aws:s3:::{request['Bucket']}"
    if operation == "CreateBucket":
        policy.add(("s3:CreateBucket", "s3:ListBucket", "s3:PutBucketPublicAccessBlock"), bucket)
        return
    policy.add(("s3:ListBucket",), bucket)
    policy.add(("s3:GetObject", f"s3:{operation}"), f"{bucket}/{request['Key']}")


def _allow_pull(policy: _Policy, image: str) -> None:
    found = _ECR_IMAGE.match(image)
    if not found:
        return
    policy.add(("ecr:GetAuthorizationToken",), "*")
    policy.add(
        ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
        f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['name']}",
    )


def _inputs(request: Mapping[str, Any]) -> list[str]:
    sources = _find(request, ("S3DataSource",))
    uris = [source["S3Uri"] for source in sources]
    return _s3_only([*_find(request, ("ModelDataUrl",)), *uris])


def _outputs(request: Mapping[str, Any]) -> list[str]:
    checkpoints = [config["S3Uri"] for config in _find(request, ("CheckpointConfig",))]
    return _s3_only([*_find(request, ("S3OutputPath", "DestinationS3Uri")), *checkpoints])


def _s3_only(uris: Iterable[str]) -> list[str]:
    return [uri for uri in dict.fromkeys(uris) if _S3.match(uri)]


def _find(value: Any, names: tuple[str, ...]) -> list[Any]:
    """The values of all members with one of these names, at any depth, in order."""
    if isinstance(value, Mapping):
        found: list[Any] = []
        for name, member in value.items():
            found += [member] if name in names and member else _find(member, names)
        return found
    if isinstance(value, list | tuple):
        return [hit for member in value for hit in _find(member, names)]
    return []


def _bucket_arn(uri: str) -> str:
    found = _S3.match(uri)
    return f"arn:aws:s3:::{found['bucket'] if found else ''}"


def _key(uri: str) -> str:
    found = _S3.match(uri)
    return found["key"] if found else ""


def _key_arn(key: str, region: str, account: str) -> str:
    return key if key.startswith("arn:") else f"arn:aws:kms:{region}:{account}:key/{key}"

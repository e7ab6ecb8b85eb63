from typing import Any

import botocore.session
import pytest

from local.requests.hosting import Hosting, Scaling, schedule
from local.requests.permissions import OPERATIONS, S3_OPERATIONS, caller_policy, role_policy
from tests.training_requests import channel

REGION, ACCOUNT = "us-east-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/berth"
SERVICES = {
    "sagemaker": "sagemaker",
    "application-autoscaling": "application-autoscaling",
    "scheduler": "scheduler",
    "ecr": "ecr",
}
TRAINING: dict[str, Any] = {
    "TrainingJobName": "Job-1",
    "RoleArn": ROLE,
    "AlgorithmSpecification": {
        "TrainingImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/berth:latest",
        "TrainingInputMode": "File",
    },
    "InputDataConfig": [channel("train", "s3://in/data/")],
    "OutputDataConfig": {"S3OutputPath": "s3://out/jobs", "KmsKeyId": "key-1"},
    "CheckpointConfig": {"S3Uri": "s3://out/checkpoints"},
    "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    "Tags": [{"Key": "a", "Value": "b"}],
}


def actions(policy: dict[str, Any]) -> dict[str, list[str]]:
    """Return the resources of each action."""
    found: dict[str, list[str]] = {}
    for statement in policy["Statement"]:
        resources = statement["Resource"]
        for action in statement["Action"]:
            found.setdefault(action, []).extend(
                [resources] if isinstance(resources, str) else resources
            )
    return found


def test_the_caller_of_a_training_job() -> None:
    needed = actions(
        caller_policy([("CreateTrainingJob", TRAINING)], region=REGION, account=ACCOUNT)
    )
    job = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/job-1"  # compared in lower case
    for action in ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags"):
        assert needed[f"sagemaker:{action}"] == [job]
    assert needed["iam:PassRole"] == [ROLE]
    assert needed["s3:GetObject"] == [
        "arn:aws:s3:::out/jobs*",
        "arn:aws:s3:::out/checkpoints*",
    ]
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs:*"
    assert needed["logs:GetLogEvents"] == [group]


def test_the_role_of_a_training_job() -> None:
    needed = actions(role_policy([("CreateTrainingJob", TRAINING)], region=REGION, account=ACCOUNT))
    assert needed["s3:GetObject"] == [
        "arn:aws:s3:::in/data/*",
        "arn:aws:s3:::out/jobs*",
        "arn:aws:s3:::out/checkpoints*",
    ]
    assert needed["s3:PutObject"] == ["arn:aws:s3:::out/jobs*", "arn:aws:s3:::out/checkpoints*"]
    assert needed["ecr:BatchGetImage"] == [f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/berth"]
    assert needed["kms:Decrypt"] == [f"arn:aws:kms:{REGION}:{ACCOUNT}:key/key-1"]
    assert needed["ec2:CreateNetworkInterface"] == ["*"]


@pytest.mark.parametrize(("kind", "app"), [("tracking-server", False), ("app", True)])
def test_the_role_of_a_job_that_logs_to_managed_mlflow(kind: str, app: bool) -> None:
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-{kind}/mine"

    def needed(uri: str) -> dict[str, list[str]]:
        request = TRAINING | {"Environment": {"MLFLOW_TRACKING_URI": uri}}
        return actions(
            role_policy([("CreateTrainingJob", request)], region=REGION, account=ACCOUNT)
        )

    assert needed(arn)["sagemaker-mlflow:LogBatch"] == [arn]
    assert ("sagemaker:CallMlflowAppApi" in needed(arn)) is app
    assert not any("mlflow" in action.lower() for action in needed("https://tracking.example"))


def test_the_role_of_a_job_that_rules_of_aws_may_stop() -> None:
    image = "503895931360.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-debugger-rules:latest"
    stop = {"rule_to_invoke": "Overfit", "action_json": '{"name": "stoptraining"}'}
    rule = {"RuleConfigurationName": "a", "RuleEvaluatorImage": image, "RuleParameters": stop}
    watched = TRAINING | {
        "DebugHookConfig": {"S3OutputPath": "s3://debug/jobs"},
        "DebugRuleConfigurations": [rule],
    }
    needed = actions(role_policy([("CreateTrainingJob", watched)], region=REGION, account=ACCOUNT))
    job = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/job-1"
    assert needed["sagemaker:StopTrainingJob"] == [job]
    assert needed["sagemaker:ListTrainingJobs"] == ["*"]
    assert "arn:aws:s3:::debug/jobs*" in needed["s3:PutObject"]
    rules = "arn:aws:ecr:eu-west-1:503895931360:repository/sagemaker-debugger-rules"
    assert rules in needed["ecr:BatchGetImage"]
    del stop["action_json"]
    needed = actions(role_policy([("CreateTrainingJob", watched)], region=REGION, account=ACCOUNT))
    assert "sagemaker:StopTrainingJob" not in needed


def test_a_tuning_jobs_trials_are_followed() -> None:
    request = {"HyperParameterTuningJobName": "search", "TrainingJobDefinition": TRAINING}
    sent = [("CreateHyperParameterTuningJob", request)]
    needed = actions(caller_policy(sent, region=REGION, account=ACCOUNT))
    trials = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/search-*"
    assert trials in needed["sagemaker:DescribeTrainingJob"]
    assert needed["iam:PassRole"] == [ROLE]


def test_only_the_necessary_actions_are_allowed() -> None:
    plain = {
        key: value
        for key, value in TRAINING.items()
        if key not in ("VpcConfig", "CheckpointConfig", "Tags")
    } | {"OutputDataConfig": {"S3OutputPath": "s3://out/jobs"}}
    sent = [("CreateTrainingJob", plain)]
    everything = actions(caller_policy(sent, region=REGION, account=ACCOUNT)) | actions(
        role_policy(sent, region=REGION, account=ACCOUNT)
    )
    assert not [name for name in everything if name.startswith(("kms:", "ec2:"))]
    assert "sagemaker:AddTags" not in everything


def test_a_deletion_schedule_and_scaling() -> None:
    from datetime import UTC, datetime

    sent = [
        ("CreateSchedule", schedule("Flowers", datetime(2030, 1, 1, tzinfo=UTC), ROLE)),
        ("RegisterScalableTarget", Scaling(1, 2, 10).target("flowers")),
        ("PutScalingPolicy", Scaling(1, 2, 10).policy("flowers")),
    ]
    policy = caller_policy(sent, region=REGION, account=ACCOUNT)
    needed = actions(policy)
    name = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/berth-ttl-Flowers"
    assert needed["scheduler:CreateSchedule"] == [name]
    (passing,) = (one for one in policy["Statement"] if one["Action"] == ["iam:PassRole"])
    assert passing["Condition"] == {
        "StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}
    }
    assert needed["application-autoscaling:PutScalingPolicy"] == ["*"]
    assert "cloudwatch:PutMetricAlarm" in needed
    of_role = actions(role_policy(sent, region=REGION, account=ACCOUNT))
    endpoint = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/flowers"
    assert of_role == {
        "sagemaker:DeleteEndpoint": [endpoint],
        "application-autoscaling:DeregisterScalableTarget": ["*"],
    }


def test_a_role_passed_to_two_services_is_two_statements() -> None:
    from datetime import UTC, datetime

    hosting = Hosting(name="f", image_uri="i", model_data="s3://b/m", role=ROLE, stamp="1")
    sent = [
        ("CreateModel", hosting.model()),
        ("CreateSchedule", schedule("f", datetime(2030, 1, 1, tzinfo=UTC), ROLE)),
    ]
    policy = caller_policy(sent, region=REGION, account=ACCOUNT)
    services = [
        statement["Condition"]["StringEquals"]["iam:PassedToService"]
        for statement in policy["Statement"]
        if "iam:PassRole" in statement["Action"]
    ]
    assert services == ["sagemaker.amazonaws.com", "scheduler.amazonaws.com"]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_and_its_related_operations_exist(operation: str) -> None:
    facts = OPERATIONS[operation]
    runtime = "sagemaker-runtime" if operation == "InvokeEndpoint" else facts.service
    session = botocore.session.get_session()
    names = set(session.get_service_model(runtime).operation_names)
    names |= set(session.get_service_model(facts.service).operation_names)
    assert {operation, *facts.also} <= names


def test_objects_belong_to_their_bucket() -> None:
    sent = [(name, {"Bucket": "b", "Key": "p/*"}) for name in S3_OPERATIONS]
    needed = actions(caller_policy(sent, region=REGION, account=ACCOUNT))
    assert needed["s3:PutObject"] == needed["s3:DeleteObject"] == ["arn:aws:s3:::b/p/*"]
    assert needed["s3:CreateBucket"] == needed["s3:ListBucket"] == ["arn:aws:s3:::b"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-iso-east-1", "aws-iso")],
)
def test_arns_in_another_partition(region: str, partition: str) -> None:
    image = f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com.cn/berth:latest"
    training = TRAINING | {
        "RoleArn": f"arn:{partition}:iam::{ACCOUNT}:role/berth",
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
    }
    requests: list[tuple[str, dict[str, Any]]] = [
        ("CreateTrainingJob", training),
        ("CreateBucket", {"Bucket": "b"}),
        ("PutObject", {"Bucket": "b", "Key": "k"}),
        ("CreateRepository", {"repositoryName": "berth", "tags": [{}]}),
        ("RegisterScalableTarget", {}),
    ]
    for policy in (caller_policy, role_policy):
        found = actions(policy(requests, region=region, account=ACCOUNT))
        arns = {arn for each in found.values() for arn in each if arn != "*"}
        assert arns
        assert {arn.split(":")[1] for arn in arns} == {partition}

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind
from local.emulator.training.metrics import MetricPoint

Refused = Callable[..., str]
CHANNEL = "InputDataConfig.0"
SOURCE = f"{CHANNEL}.DataSource.S3DataSource"
SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
}


def finish(
    context: Context, status: str, kind: Kind = Kind.TRAINING_JOB, name: str = "job"
) -> None:
    prefix = "TrainingJob" if kind is Kind.TRAINING_JOB else "HyperParameterTuningJob"
    context.store.update(
        kind, name, lambda record: record.body.__setitem__(f"{prefix}Status", status)
    )


def train(context: Context) -> None:
    context.store.update(
        Kind.TRAINING_JOB,
        "job",
        lambda record: record.body.__setitem__("SecondaryStatus", "Training"),
    )


def test_from_create_to_delete(client: Any, context: Context, valid: Any) -> None:
    arn = client.create_training_job(**valid("create_training_job"))["TrainingJobArn"]
    assert arn == context.arn(Kind.TRAINING_JOB, "job")
    described = client.describe_training_job(TrainingJobName="job")
    assert described["TrainingJobStatus"] == "InProgress"
    assert described["RoleArn"].endswith("role/berth")
    client.stop_training_job(TrainingJobName="job")
    assert client.describe_training_job(TrainingJobName="job")["TrainingJobStatus"] == "Stopping"
    with pytest.raises(client.exceptions.ResourceInUse, match="is Stopping; only a job"):
        client.delete_training_job(TrainingJobName="job")
    finish(context, "Stopped")
    tree = context.home.job(Kind.TRAINING_JOB, "job")
    tree.mkdir(parents=True)
    client.delete_training_job(TrainingJobName="job")
    assert not tree.exists()
    client.create_training_job(**valid("create_training_job"))


def test_a_name_can_be_used_once(unchecked: Any, valid: Any) -> None:
    unchecked.create_training_job(**valid("create_training_job"))
    with pytest.raises(unchecked.exceptions.ResourceInUse) as caught:
        unchecked.create_training_job(**valid("create_training_job"))
    assert caught.value.response["Error"]["Message"] == (
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists (arn:aws:sagemaker:us-east-1:123456789012:training-job/job)"
    )


@pytest.mark.parametrize(
    "method", ["describe_training_job", "stop_training_job", "delete_training_job"]
)
def test_a_missing_job(client: Any, method: str) -> None:
    with pytest.raises(client.exceptions.ClientError) as caught:
        getattr(client, method)(TrainingJobName="nowhere")
    assert caught.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "Requested resource not found.",
    }


def test_stopping_an_ended_job(client: Any, context: Context, valid: Any) -> None:
    client.create_training_job(**valid("create_training_job"))
    finish(context, "Completed")
    with pytest.raises(client.exceptions.ClientError, match="in status Completed"):
        client.stop_training_job(TrainingJobName="job")


def test_a_running_job_shows_its_latest_metrics(client: Any, context: Services, valid: Any) -> None:
    request = valid("create_training_job")
    request["AlgorithmSpecification"]["MetricDefinitions"] = [
        {"Name": name, "Regex": f"{name}=(.*)"} for name in ("loss", "score", "later")
    ]
    client.create_training_job(**request)
    assert "FinalMetricDataList" not in client.describe_training_job(TrainingJobName="job")
    runner: Any = context.training
    runner.measured += [
        MetricPoint("score", 0.1, 1.0),
        MetricPoint("loss", 3.0, 2.0),
        MetricPoint("score", 0.2, 3.0),
        MetricPoint("loss", float("nan"), 4.0),
    ]
    described = client.describe_training_job(TrainingJobName="job")["FinalMetricDataList"]
    assert [(each["MetricName"], each["Value"]) for each in described] == [
        ("loss", pytest.approx(3.0)),
        ("score", pytest.approx(0.2)),
    ]
    assert described[1]["Timestamp"].timestamp() == 3.0
    assert "FinalMetricDataList" not in context.store.get(Kind.TRAINING_JOB, "job").body
    finish(context, "Completed")
    assert "FinalMetricDataList" not in client.describe_training_job(TrainingJobName="job")


HOOK = {"DebugHookConfig": {"S3OutputPath": "s3://out/debug"}}
PROFILER = {"ProfilerConfig": {"S3OutputPath": "s3://out/profile"}}


def rule(name: str, what: str = "Overfit", **parameters: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": "503895931360.dkr.ecr.us-east-1.amazonaws.com/rules:latest",
        "RuleParameters": {"rule_to_invoke": what, **parameters},
    }


def test_a_running_job_shows_its_rules(client: Any, context: Context, valid: Any) -> None:
    client.create_training_job(**valid("create_training_job"))
    train(context)
    assert "DebugRuleEvaluationStatuses" not in client.describe_training_job(TrainingJobName="job")
    status_written = {"RuleConfigurationName": "mine", "RuleEvaluationStatus": "IssuesFound"}
    path = context.home.job(Kind.TRAINING_JOB, "job") / "algo-1/output/data/rules/debug.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([status_written, {"RuleEvaluationStatus": 7}]))
    (status,) = client.describe_training_job(TrainingJobName="job")["DebugRuleEvaluationStatuses"]
    assert status.items() > status_written.items()
    path.write_text(json.dumps([status_written])[:20])
    assert "DebugRuleEvaluationStatuses" not in client.describe_training_job(TrainingJobName="job")


ACCEPTED: list[dict[str, Any]] = [
    {"HyperParameters": {f"h{n}": "x" * 2500 for n in range(100)}},
    {"Environment": {"A": ""}, "HyperParameters": {}},
    {"InputDataConfig": ...},
    {f"{SOURCE}.S3Uri": "s3://data/tr"},
    {f"{SOURCE}.S3DataDistributionType": "ShardedByS3Key"},
    {f"{CHANNEL}.InputMode": "FastFile", f"{CHANNEL}.CompressionType": "None"},
    {f"{SOURCE}.S3DataType": "ManifestFile", f"{SOURCE}.S3Uri": "s3://data/train/a.png"},
    {"AlgorithmSpecification.MetricDefinitions": [{"Name": "a", "Regex": "a=([0-9]+)"}]},
    SPOT,
    {**SPOT, "Tags": [{"Key": "berth:interrupt-after", "Value": "0.5"}]},
    {"StoppingCondition": ...},
    {
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "OutputDataConfig.KmsKeyId": "key",
        "ResourceConfig.VolumeKmsKeyId": "key",
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "DebugHookConfig": {"S3OutputPath": "s3://out/debug"},
        "ProfilerConfig": {"S3OutputPath": "s3://out/profile"},
        "TensorBoardOutputConfig": {"S3OutputPath": "s3://out/board"},
        "CheckpointConfig": {"S3Uri": "s3://out/checkpoints"},
        "RemoteDebugConfig": {"EnableRemoteDebug": False},
        "ResourceConfig.KeepAlivePeriodInSeconds": 60,
    },
    {"ProfilerConfig": {"DisableProfiler": True}},
    {
        **HOOK,
        "DebugRuleConfigurations": [rule("a"), rule("b", "NoSuchRule")],
        "ProfilerConfig": {
            "S3OutputPath": "s3://out/profile",
            "ProfilingIntervalInMilliseconds": 60000,
        },
        "ProfilerRuleConfigurations": [{**rule("a"), "S3OutputPath": "s3://out/rules"}],
    },
    {**HOOK, "DebugRuleConfigurations": [rule("any/thing", source_s3_uri="s3://data/train/a.png")]},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=range(len(ACCEPTED)))
def test_valid_requests_are_accepted(client: Any, valid: Any, changes: dict[str, Any]) -> None:
    client.create_training_job(**valid("create_training_job", changes))
    assert client.describe_training_job(TrainingJobName="job")["TrainingJobName"] == "job"


REFUSED: list[tuple[dict[str, Any], str]] = [
    # The model's limits, which boto3 does not check.
    ({"HyperParameters": {f"h{n}": "1" for n in range(101)}}, "less than or equal to 100"),
    ({"HyperParameters": {"k" * 257: "1"}}, "Map key must satisfy constraint"),
    ({"Environment": {"A": "x" * 513}}, "less than or equal to 512"),
    ({"TrainingJobName": "j" * 64}, "less than or equal to 63"),
    ({"RoleArn": "arn:aws:iam::1:role/x/y/z"}, "at 'roleArn' failed to satisfy constraint"),
    ({"InputDataConfig": []}, "greater than or equal to 1"),
    ({f"{CHANNEL}.ChannelName": "a b"}, "'inputDataConfig.1.member.channelName'"),
    ({"ResourceConfig.InstanceType": "local"}, "at 'resourceConfig.instanceType'"),
    # Metrics.
    (
        {"AlgorithmSpecification.MetricDefinitions": [{"Name": "a", "Regex": "a=("}]},
        "the Regex 'a=(' of metric 'a' is not a regular expression: missing ), unterminated",
    ),
    (
        {"AlgorithmSpecification.MetricDefinitions": [{"Name": "a", "Regex": "x{99999999999}"}]},
        "is not a regular expression: the repetition number is too large",
    ),
    (
        {"AlgorithmSpecification.MetricDefinitions": [{"Name": "a", "Regex": "x"}] * 2},
        "MetricDefinitions has 'a' more than once",
    ),
    (
        {"AlgorithmSpecification.MetricDefinitions": [{"Name": "a", "Regex": "x"}] * 41},
        "at 'algorithmSpecification.metricDefinitions' failed to satisfy constraint",
    ),
    # Spot and times.
    ({**SPOT, "StoppingCondition.MaxWaitTimeInSeconds": ...}, "expected at least 60"),
    (
        {**SPOT, "StoppingCondition.MaxWaitTimeInSeconds": 59},
        "Invalid MaxWaitTimeInSeconds. It must",
    ),
    (
        {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxWaitTimeInSeconds": 9}},
        "expected at least 86400",
    ),
    (
        {"StoppingCondition.MaxWaitTimeInSeconds": 9999},
        "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set "
        "to true",
    ),
    ({"StoppingCondition.MaxRuntimeInSeconds": 2419201}, "expected at most 2419200 (28 days)"),
    (
        {**SPOT, "ResourceConfig.KeepAlivePeriodInSeconds": 60},
        "KeepAlivePeriodInSeconds was given with EnableManagedSpotTraining",
    ),
    ({"Environment": {"A": "x\0y"}}, "Member must not contain NUL"),
    ({"HyperParameters": {"a": "\ud83d"}}, "Member must not contain NUL or a lone surrogate"),
    ({"HyperParameters": {"a": "1\n2"}}, "satisfy regular expression pattern: .*"),
    # Tags.
    (
        {"Tags": [{"Key": "berth:interrupt-after", "Value": "5"}]},
        "without EnableManagedSpotTraining",
    ),
    ({**SPOT, "Tags": [{"Key": "berth:interrupt-after", "Value": "0"}]}, "seconds above 0"),
    ({**SPOT, "Tags": [{"Key": "berth:interrupt-after", "Value": "soon"}]}, "is 'soon'"),
    ({**SPOT, "Tags": [{"Key": "berth:interrupt-after", "Value": "inf"}]}, "is 'inf'"),
    ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "'a' more than once"),
    ({"Tags": [{"Key": "AWS:a", "Value": "1"}]}, "without the prefix aws:"),
    # The image.
    ({"AlgorithmSpecification.TrainingImage": "no:where"}, "the image no:where is not on this"),
    ({"AlgorithmSpecification.TrainingImage": ...}, "TrainingImage is missing"),
    ({"AlgorithmSpecification": ...}, "AlgorithmSpecification is missing"),
    ({"AlgorithmSpecification.AlgorithmName": "xgboost"}, "AlgorithmName is not supported"),
    (
        {"AlgorithmSpecification.TrainingImageConfig": {"TrainingRepositoryAccessMode": "Vpc"}},
        "TrainingRepositoryAccessMode 'Vpc' is not supported",
    ),
    # Data.
    (
        {f"{SOURCE}.S3Uri": "s3://data/tests/"},
        'No S3 objects found under S3 URL "s3://data/tests/" given in input data source. Please '
        "ensure that the bucket exists in the selected region (us-east-1), that objects exist "
        'under that S3 prefix, and that the role "arn:aws:iam::123456789012:role/berth" has '
        '"s3:ListBucket" permissions on bucket "data". (InputDataConfig \'train\': S3Uri: the '
        "local bucket data has no object under it.)",
    ),
    ({f"{SOURCE}.S3Uri": "s3://gone/train/"}, "the local bucket gone does not exist"),
    ({f"{SOURCE}.S3Uri": "https://s3.amazonaws.com/data/train"}, "expected s3://bucket/prefix"),
    ({f"{SOURCE}.S3Uri": "s3://data/train/#"}, 'S3 URL "s3://data/train/#"'),
    ({f"{SOURCE}.S3Uri": "file:///" + "x" * 300}, "cannot be read: File name too long"),
    ({f"{SOURCE}.S3Uri": "file:///no/such/folder"}, "no such file or folder"),
    ({f"{SOURCE}.S3Uri": "file://elsewhere/tmp"}, "at 'inputDataConfig.1.member"),
    ({f"{SOURCE}.S3DataType": "AugmentedManifestFile"}, "expected S3Prefix or ManifestFile"),
    (
        {f"{SOURCE}.S3DataType": "ManifestFile", f"{SOURCE}.S3Uri": "s3://data/train/a"},
        'No S3 objects found under S3 URL "s3://data/train/a"',
    ),
    (
        {f"{SOURCE}.S3DataType": "ManifestFile", f"{SOURCE}.S3Uri": "file:///etc/hosts"},
        "S3Uri 'file:///etc/hosts' is not supported by the local SageMaker; expected s3://",
    ),
    (
        {
            f"{SOURCE}.S3DataType": "AugmentedManifestFile",
            f"{SOURCE}.AttributeNames": ["source-ref", "label"],
            f"{CHANNEL}.InputMode": "Pipe",
        },
        "expected S3Prefix or ManifestFile; `berth data import` makes an image folder",
    ),
    ({f"{SOURCE}.AttributeNames": ["a"]}, "only an AugmentedManifestFile"),
    ({f"{CHANNEL}.InputMode": "Pipe"}, "InputMode 'Pipe' is not supported"),
    ({"AlgorithmSpecification.TrainingInputMode": "Pipe"}, "expected File or FastFile"),
    ({f"{CHANNEL}.CompressionType": "Gzip"}, "CompressionType is 'Gzip'; expected None"),
    ({f"{CHANNEL}.RecordWrapperType": "RecordIO"}, "RecordWrapperType is 'RecordIO'"),
    ({f"{CHANNEL}.ChannelName": ".."}, "the ChannelName '..'"),
    ({SOURCE: ...}, "DataSource has no S3DataSource"),
    (
        {
            f"{CHANNEL}.DataSource.FileSystemDataSource": {
                "FileSystemId": "fs-12345678",
                "FileSystemAccessMode": "ro",
                "FileSystemType": "EFS",
                "DirectoryPath": "/x",
            }
        },
        "InputDataConfig 'train': DataSource.FileSystemDataSource is not supported",
    ),
    ({f"{SOURCE}.InstanceGroupNames": ["a"]}, "InstanceGroupNames has 'a'; ResourceConfig."),
    # Where the results go.
    (
        {"OutputDataConfig.S3OutputPath": "s3://gone/x"},
        "OutputDataConfig.S3OutputPath is 's3://gone",
    ),
    ({"OutputDataConfig.S3OutputPath": "file:///tmp"}, "expected s3://bucket/prefix"),
    ({"CheckpointConfig": {"S3Uri": "s3://gone/x"}}, "CheckpointConfig.S3Uri is 's3://gone/x'"),
    ({"DebugHookConfig": {"S3OutputPath": "s3://gone"}}, "DebugHookConfig.S3OutputPath"),
    (
        {"CheckpointConfig": {"S3Uri": "s3://out/x", "LocalPath": "/home/me"}},
        "CheckpointConfig.LocalPath: found /home/me",
    ),
    # Debugger and profiler.
    ({"DebugRuleConfigurations": [rule("a")]}, "DebugRuleConfigurations was given without Debug"),
    (
        {"ProfilerRuleConfigurations": [rule("a")]},
        "ProfilerRuleConfigurations was given without ProfilerConfig",
    ),
    (
        {
            "ProfilerConfig": {"DisableProfiler": True},
            "ProfilerRuleConfigurations": [rule("a")],
        },
        "was given with ProfilerConfig.DisableProfiler",
    ),
    (
        {"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 300}},
        "ProfilingIntervalInMilliseconds is 300; expected one of 100, 200, 500, 1000, 5000, 60000",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [rule("a"), rule("a")]},
        "DebugRuleConfigurations has 'a' more than once",
    ),
    (
        {**PROFILER, "ProfilerRuleConfigurations": [rule("a"), rule("a")]},
        "ProfilerRuleConfigurations has 'a' more than once",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [rule(f"r{n}") for n in range(21)]},
        "at 'debugRuleConfigurations' failed to satisfy constraint",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [rule("a", big="x" * 257)]},
        "Map value must satisfy constraint",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [{**rule("a"), "InstanceType": "ml.none"}]},
        "at 'debugRuleConfigurations.1.member.instanceType'",
    ),
    (
        {"DebugHookConfig.S3OutputPath": "s3://out/d", "DebugHookConfig.HookParameters": {"": "1"}},
        "Map key must satisfy constraint",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [{**rule("a"), "S3OutputPath": "s3://gone/x"}]},
        "DebugRuleConfigurations 'a': S3OutputPath is 's3://gone/x'",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [rule("a", source_s3_uri="s3://data/train/a")]},
        "the rule 'a': RuleParameters.source_s3_uri is 's3://data/train/a'; the local S3 has no",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [rule("a", source_s3_uri="mine.py")]},
        "source_s3_uri 'mine.py' is not supported by the local SageMaker; expected s3://",
    ),
    (
        {**HOOK, "DebugRuleConfigurations": [rule("a", source_s3_uri="s3://data/train/..")]},
        "source_s3_uri 's3://data/train/..' is not supported by the local SageMaker; expected a f",
    ),
    (
        {
            **HOOK,
            "DebugRuleConfigurations": [
                rule("a", source_s3_uri="s3://data/train/a.png"),
                rule("b", source_s3_uri="s3://out/a.png"),
            ],
        },
        "the rule 'b': RuleParameters.source_s3_uri is 's3://out/a.png'; the local S3 has no",
    ),
    # The machines.
    ({"ResourceConfig.InstanceCount": 0}, "InstanceCount is 0; expected an instance type"),
    ({"ResourceConfig": ...}, "ResourceConfig.InstanceType is missing"),
    (
        {
            "ResourceConfig.InstanceGroups": [
                {"InstanceGroupName": "g", "InstanceType": "ml.m5.large", "InstanceCount": 1}
            ]
        },
        "expected one or the other",
    ),
    # Features that the local SageMaker lacks.
    ({"ExperimentConfig": {"TrialName": "t"}}, "ExperimentConfig is not supported by the local"),
    ({"RemoteDebugConfig": {"EnableRemoteDebug": True}}, "EnableRemoteDebug is not supported"),
    (
        {
            "ServerlessJobConfig": {
                "JobType": "FineTuning",
                "BaseModelArn": "arn:aws:sagemaker:us-east-1:aws:hub-content/hub/Model/m",
            }
        },
        "ServerlessJobConfig is not supported",
    ),
]


@pytest.mark.parametrize(
    ("changes", "expected"), REFUSED, ids=[expected[:40] for _, expected in REFUSED]
)
def test_invalid_requests_are_refused(
    refused: Refused, context: Context, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused("create_training_job", changes)
    assert context.store.every(Kind.TRAINING_JOB) == []


def test_two_channels_with_one_name(refused: Refused, valid: Any) -> None:
    channel = valid("create_training_job")["InputDataConfig"][0]
    message = refused("create_training_job", {"InputDataConfig": [channel, channel]})
    assert message == "InputDataConfig has 'train' more than once; expected unique names."


def test_more_hosts_than_the_executor_has(
    refused: Refused, executor: Any, client: Any, valid: Any
) -> None:
    changes = {"ResourceConfig.InstanceCount": 2}
    assert refused("create_training_job", changes, "ResourceLimitExceeded") == (
        "ResourceConfig.InstanceCount is 2; the executor process has 1 host: use --executor docker."
    )
    executor.name, executor.max_hosts = "docker", 3
    client.create_training_job(**valid("create_training_job", changes))
    groups = [
        {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": 2}
        for name in "ab"
    ]
    message = refused(
        "create_training_job",
        {"ResourceConfig": {"InstanceGroups": groups}, "TrainingJobName": "groups"},
        "ResourceLimitExceeded",
    )
    assert "InstanceCount is 4; the executor docker has 3 hosts: use fewer" in message


def test_local_files_as_input(client: Any, refused: Refused, valid: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    folder.mkdir()
    changes = {f"{SOURCE}.S3Uri": folder.as_uri()}
    assert "the folder is empty" in refused("create_training_job", changes)
    (folder / "a.png").touch()
    client.create_training_job(**valid("create_training_job", changes))

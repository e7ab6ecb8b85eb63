"""Defaults that Describe and List responses add to the request, as on AWS."""

from collections.abc import Iterator
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.store import Kind

CHANNEL = {"CompressionType": "None", "RecordWrapperType": "None"}
SWITCHES = {
    "EnableNetworkIsolation": False,
    "EnableInterContainerTrafficEncryption": False,
    "EnableManagedSpotTraining": False,
}


def carries(answer: Any, expected: Any, path: str = "answer") -> None:
    """Assert that the response contains everything expected, and maybe more."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert name in answer, f"{path} has no {name}: {answer}"
            carries(answer[name], value, f"{path}.{name}")
    elif isinstance(expected, list):
        assert len(answer) == len(expected), path
        for number, (one, wanted) in enumerate(zip(answer, expected, strict=True)):
            carries(one, wanted, f"{path}[{number}]")
    else:
        assert answer == expected, f"{path} is {answer!r}"


def leaves(value: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[tuple[object, ...], Any]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def repeats(answer: Any, request: dict[str, Any]) -> None:
    """Assert that the response repeats the request unchanged."""
    for path, value in leaves({key: item for key, item in request.items() if key != "Tags"}):
        found = answer
        for key in path:
            found = found[key]
        assert found == value, path


def test_a_training_job(client: Any, valid: Any) -> None:
    request = valid("create_training_job", StoppingCondition={})
    client.create_training_job(**request)
    described = client.describe_training_job(TrainingJobName="job")
    repeats(described, request)
    carries(
        described,
        {
            **SWITCHES,
            "AlgorithmSpecification": {"EnableSageMakerMetricsTimeSeries": False},
            "InputDataConfig": [
                {
                    **CHANNEL,
                    "DataSource": {"S3DataSource": {"S3DataDistributionType": "FullyReplicated"}},
                }
            ],
            "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP"},
            "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
            "ProfilingStatus": "Disabled",
        },
    )
    for absent in ("WarmPoolStatus", "ProfilerConfig", "DebugHookConfig"):
        assert absent not in described


def test_a_training_job_with_debugger_and_profiler(client: Any, valid: Any) -> None:
    rule = {"RuleConfigurationName": "Overfit", "RuleEvaluatorImage": "any"}
    request = valid(
        "create_training_job",
        {
            "AlgorithmSpecification.MetricDefinitions": [{"Name": "a", "Regex": "a=(.*?);"}],
            "DebugHookConfig": {"S3OutputPath": "s3://out"},
            "ProfilerConfig": {"S3OutputPath": "s3://out"},
            "DebugRuleConfigurations": [{**rule, "RuleParameters": {"rule_to_invoke": "Overfit"}}],
            "ProfilerRuleConfigurations": [
                {**rule, "RuleParameters": {"rule_to_invoke": "ProfilerReport"}}
            ],
        },
    )
    client.create_training_job(**request)
    described = client.describe_training_job(TrainingJobName="job")
    repeats(described, request)
    carries(
        described,
        {
            "AlgorithmSpecification": {"EnableSageMakerMetricsTimeSeries": True},
            "DebugHookConfig": {"CollectionConfigurations": []},
            "ProfilerConfig": {"ProfilingIntervalInMilliseconds": 500, "DisableProfiler": False},
            "DebugRuleConfigurations": [{"VolumeSizeInGB": 0}],
            "ProfilerRuleConfigurations": [{"VolumeSizeInGB": 0}],
        },
    )


def test_the_stored_request_is_unchanged(client: Any, valid: Any) -> None:
    request = valid(
        "create_training_job",
        {
            "OutputDataConfig.CompressionType": "NONE",
            "InputDataConfig.0.DataSource.S3DataSource.S3DataDistributionType": "ShardedByS3Key",
            "ProfilerConfig": {
                "S3OutputPath": "s3://out",
                "ProfilingIntervalInMilliseconds": 100,
                "DisableProfiler": True,
            },
            "EnableNetworkIsolation": True,
        },
    )
    client.create_training_job(**request)
    repeats(client.describe_training_job(TrainingJobName="job"), request)


def test_a_warm_pool(client: Any, context: Context, valid: Any) -> None:
    request = valid("create_training_job", {"ResourceConfig.KeepAlivePeriodInSeconds": 60})
    client.create_training_job(**request)

    def warm_pool() -> list[Any]:
        (listed,) = client.list_training_jobs()["TrainingJobSummaries"]
        described = client.describe_training_job(TrainingJobName="job")
        assert listed["WarmPoolStatus"] == described["WarmPoolStatus"]
        return [
            described["WarmPoolStatus"],
            *(
                len(client.list_training_jobs(WarmPoolStatusEquals=status)["TrainingJobSummaries"])
                for status in ("InUse", "Terminated", "Available")
            ),
        ]

    assert warm_pool() == [{"Status": "InUse"}, 1, 0, 0]
    context.store.update(
        Kind.TRAINING_JOB, "job", lambda record: record.body.update(TrainingJobStatus="Completed")
    )
    given_back = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}
    assert warm_pool() == [given_back, 0, 1, 0]


def test_a_tuning_job(client: Any, valid: Any) -> None:
    definition = "TrainingJobDefinition"
    request = valid(
        "create_hyper_parameter_tuning_job",
        {
            "HyperParameterTuningJobConfig.ParameterRanges": {
                "IntegerParameterRanges": [{"Name": "depth", "MinValue": "1", "MaxValue": "3"}]
            },
            f"{definition}.StoppingCondition": {},
        },
    )
    client.create_hyper_parameter_tuning_job(**request)
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune")
    repeats(described, request)
    carries(
        described,
        {
            "HyperParameterTuningJobConfig": {
                "TrainingJobEarlyStoppingType": "Off",
                "ParameterRanges": {
                    "IntegerParameterRanges": [{"ScalingType": "Auto"}],
                    "ContinuousParameterRanges": [],
                    "CategoricalParameterRanges": [],
                },
            },
            definition: {
                **SWITCHES,
                "StaticHyperParameters": {
                    "epochs": "9",
                    "_tuning_objective_metric": "accuracy",
                },
                "InputDataConfig": [
                    {
                        **CHANNEL,
                        "DataSource": {
                            "S3DataSource": {"S3DataDistributionType": "FullyReplicated"}
                        },
                    }
                ],
                "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP"},
                "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
            },
        },
    )


def test_a_grid_has_as_many_training_jobs_as_combinations(client: Any, valid: Any) -> None:
    config = "HyperParameterTuningJobConfig"
    request = valid(
        "create_hyper_parameter_tuning_job",
        {
            f"{config}.Strategy": "Grid",
            f"{config}.ResourceLimits": {"MaxParallelTrainingJobs": 2},
            f"{config}.ParameterRanges": {
                "CategoricalParameterRanges": [
                    {"Name": "arch", "Values": ["resnet18", "resnet50"]},
                    {"Name": "lr", "Values": ["0.1", "0.01", "0.001"]},
                ]
            },
        },
    )
    client.create_hyper_parameter_tuning_job(**request)
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune")
    (listed,) = client.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    limits = {"MaxNumberOfTrainingJobs": 6, "MaxParallelTrainingJobs": 2}
    assert described[config]["ResourceLimits"] == listed["ResourceLimits"] == limits


def test_several_definitions(client: Any, valid: Any) -> None:
    request = valid("create_hyper_parameter_tuning_job")
    config = request["HyperParameterTuningJobConfig"]
    definition = request.pop("TrainingJobDefinition")
    machines = definition.pop("ResourceConfig")
    definition |= {
        "TuningObjective": config.pop("HyperParameterTuningJobObjective"),
        "HyperParameterRanges": config.pop("ParameterRanges"),
        "HyperParameterTuningResourceConfig": machines,
    }
    request["TrainingJobDefinitions"] = [
        {**definition, "DefinitionName": name} for name in ("first", "second")
    ]
    client.create_hyper_parameter_tuning_job(**request)
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune")
    repeats(described, request)
    filled = {
        **SWITCHES,
        "ResourceConfig": machines,
        "HyperParameterRanges": {"IntegerParameterRanges": [], "CategoricalParameterRanges": []},
        "OutputDataConfig": {"KmsKeyId": ""},
        "StaticHyperParameters": {"_tuning_objective_metric": "accuracy"},
    }
    carries(described, {"TrainingJobDefinitions": [filled, filled]})


def test_a_transform_job(served: Any, valid: Any) -> None:
    request = valid("create_transform_job")
    served.create_transform_job(**request)
    described = served.describe_transform_job(TransformJobName="batch")
    repeats(described, request)
    carries(
        described,
        {
            "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
            "TransformInput": {"CompressionType": "None", "SplitType": "None"},
            "TransformOutput": {"AssembleWith": "None", "KmsKeyId": ""},
        },
    )


@pytest.mark.parametrize("containers", ["PrimaryContainer", "Containers"])
def test_a_model(client: Any, valid: Any, containers: str) -> None:
    request = valid("create_model")
    if containers == "Containers":
        request["Containers"] = [request.pop("PrimaryContainer")]
    client.create_model(**request)
    described = client.describe_model(ModelName="model")
    repeats(described, request)
    source = {
        "S3Uri": "s3://data/model/model.tar.gz",
        "S3DataType": "S3Object",
        "CompressionType": "Gzip",
    }
    filled = {
        "Mode": "SingleModel",
        "Environment": {},
        "ModelDataSource": {"S3DataSource": source},
    }
    carries(described, {"EnableNetworkIsolation": False})
    carries(described[containers], filled if containers == "PrimaryContainer" else [filled])


def test_an_endpoint_and_its_configuration(client: Any, valid: Any) -> None:
    client.create_model(**valid("create_model"))
    request = valid(
        "create_endpoint_config",
        {
            "DataCaptureConfig": {
                "InitialSamplingPercentage": 100,
                "DestinationS3Uri": "s3://out",
                "CaptureOptions": [{"CaptureMode": "Input"}],
            },
            "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://out"}},
        },
    )
    client.create_endpoint_config(**request)
    described = client.describe_endpoint_config(EndpointConfigName="config")
    repeats(described, request)
    asynchronous = {
        "ClientConfig": {},
        "OutputConfig": {"KmsKeyId": "", "NotificationConfig": {}},
    }
    carries(
        described,
        {
            "EnableNetworkIsolation": False,
            "ProductionVariants": [{"InitialVariantWeight": 1.0}],
            "DataCaptureConfig": {"EnableCapture": True, "KmsKeyId": ""},
            "AsyncInferenceConfig": asynchronous,
        },
    )


def test_defaults_are_not_stored(client: Any, context: Context, valid: Any) -> None:
    """Requests are stored without defaults, as they are compared with other requests."""
    request = valid("create_model")
    client.create_model(**request)
    client.describe_model(ModelName="model")
    kept = context.store.get(Kind.MODEL, "model").body
    assert kept["PrimaryContainer"] == request["PrimaryContainer"]

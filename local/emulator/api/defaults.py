"""The defaults that AWS adds to a Describe response for members that the request omitted.

Clients rely on these members (SDK v2's `Estimator.attach` reads `OutputDataConfig["KmsKeyId"]`).
The values are from AWS's responses and from the examples in its developer guide. Each function
returns a copy of a resource's stored body with the defaults.
"""

from collections.abc import Mapping
from typing import Any

from local.emulator.api.validation.ranges import combinations
from local.emulator.training.describe import DAY_SECONDS
from local.emulator.tuning.plan import definitions_of, machines_of, ranges_of
from local.emulator.tuning.trials import OBJECTIVE_HYPERPARAMETER
from local.statuses import TERMINAL

RANGES = ("IntegerParameterRanges", "ContinuousParameterRanges", "CategoricalParameterRanges")
SCALED = RANGES[:2]
"""Ranges of numbers, which have a ScalingType."""

SWITCHES = {
    "EnableNetworkIsolation": False,
    "EnableInterContainerTrafficEncryption": False,
    "EnableManagedSpotTraining": False,
}
CHANNEL = {"CompressionType": "None", "RecordWrapperType": "None"}
TRAINING_OUTPUT = {"KmsKeyId": "", "CompressionType": "GZIP"}
PROFILER = {"ProfilingIntervalInMilliseconds": 500, "DisableProfiler": False}
RULE = {"VolumeSizeInGB": 0}
VOLUME_GB = 30
"""Default volume size in GB; the SDK's default."""

TRANSFORM_INPUT = {"CompressionType": "None", "SplitType": "None"}
TRANSFORM_OUTPUT = {"AssembleWith": "None", "KmsKeyId": ""}
DATA_PROCESSING = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}

Body = dict[str, Any]


def training_job(body: Mapping[str, Any]) -> Body:
    """DescribeTrainingJob's response."""
    filled = {**SWITCHES, "ProfilingStatus": "Disabled", **_training(body)}
    algorithm = filled["AlgorithmSpecification"]
    measured = bool(algorithm.get("MetricDefinitions"))
    filled["AlgorithmSpecification"] = {"EnableSageMakerMetricsTimeSeries": measured, **algorithm}
    _fill(filled, "DebugHookConfig", {"CollectionConfigurations": []})
    _fill(filled, "ProfilerConfig", PROFILER)
    for rules in ("DebugRuleConfigurations", "ProfilerRuleConfigurations"):
        if rules in filled:
            filled[rules] = [{**RULE, **rule} for rule in filled[rules]]
    return warm_pool(body) | filled


def warm_pool(body: Mapping[str, Any]) -> Body:
    """`WarmPoolStatus` of a training job with a warm pool, which locally ends with the job."""
    if "WarmPoolStatus" in body:
        return {"WarmPoolStatus": body["WarmPoolStatus"]}
    if not body.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"):
        return {}
    if body["TrainingJobStatus"] not in TERMINAL:
        return {"WarmPoolStatus": {"Status": "InUse"}}
    return {"WarmPoolStatus": {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}}


def tuning_job(body: Mapping[str, Any]) -> Body:
    """DescribeHyperParameterTuningJob's response."""
    filled = dict(body)
    config = {"TrainingJobEarlyStoppingType": "Off", **body["HyperParameterTuningJobConfig"]}
    if "ParameterRanges" in config:
        config["ParameterRanges"] = _ranges(config["ParameterRanges"])
    config["ResourceLimits"] = resource_limits(body)
    filled["HyperParameterTuningJobConfig"] = config
    objective = config.get("HyperParameterTuningJobObjective", {})
    if "TrainingJobDefinition" in body:
        filled["TrainingJobDefinition"] = _definition(body["TrainingJobDefinition"], objective)
    if "TrainingJobDefinitions" in body:
        filled["TrainingJobDefinitions"] = [
            _definition(definition, objective) for definition in body["TrainingJobDefinitions"]
        ]
    return filled


def resource_limits(body: Mapping[str, Any]) -> Body:
    """`ResourceLimits` of a tuning job; a grid's default is one training job per combination."""
    config = body["HyperParameterTuningJobConfig"]
    limits: Body = dict(config["ResourceLimits"])
    if config["Strategy"] == "Grid":
        grids = (ranges_of(each, config) for each in definitions_of(body))
        limits.setdefault("MaxNumberOfTrainingJobs", sum(combinations(grid) for grid in grids))
    return limits


def transform_job(body: Mapping[str, Any]) -> Body:
    """DescribeTransformJob's response."""
    filled = {"DataProcessing": {}, **body}
    _fill(filled, "TransformInput", TRANSFORM_INPUT)
    _fill(filled, "TransformOutput", TRANSFORM_OUTPUT)
    _fill(filled, "DataProcessing", DATA_PROCESSING)
    _fill(filled, "DataCaptureConfig", {"KmsKeyId": "", "GenerateInferenceId": False})
    return filled


def model(body: Mapping[str, Any]) -> Body:
    """DescribeModel's response."""
    filled = {"EnableNetworkIsolation": False, **body}
    if "PrimaryContainer" in body:
        filled["PrimaryContainer"] = _container(body["PrimaryContainer"])
    if "Containers" in body:
        filled["Containers"] = [_container(container) for container in body["Containers"]]
    return filled


def endpoint_config(body: Mapping[str, Any]) -> Body:
    """DescribeEndpointConfig's response."""
    filled = {"EnableNetworkIsolation": False, **body}
    for variants in ("ProductionVariants", "ShadowProductionVariants"):
        if variants in body:
            filled[variants] = [
                {"InitialVariantWeight": 1.0, **variant} for variant in body[variants]
            ]
    _fill(filled, "DataCaptureConfig", {"EnableCapture": True, "KmsKeyId": ""})
    _fill_async(filled)
    return filled


def endpoint(body: Mapping[str, Any]) -> Body:
    """DescribeEndpoint's response."""
    filled = dict(body)
    _fill_async(filled)
    return filled


def _training(body: Mapping[str, Any]) -> Body:
    """Fill the members that a training job and a training job definition share."""
    filled = dict(body)
    if "InputDataConfig" in body:
        filled["InputDataConfig"] = [_channel(channel) for channel in body["InputDataConfig"]]
    _fill(filled, "OutputDataConfig", TRAINING_OUTPUT)
    _fill(filled, "StoppingCondition", {"MaxRuntimeInSeconds": DAY_SECONDS})
    _fill(filled, "ResourceConfig", {"VolumeSizeInGB": VOLUME_GB})
    return filled


def _channel(channel: Mapping[str, Any]) -> Body:
    filled = {**CHANNEL, **channel}
    source = dict(channel["DataSource"])
    _fill(source, "S3DataSource", {"S3DataDistributionType": "FullyReplicated"})
    filled["DataSource"] = source
    return filled


def _definition(definition: Mapping[str, Any], objective: Mapping[str, Any]) -> Body:
    """Fill a TrainingJobDefinition; its objective defaults to the tuning job's."""
    filled = {**SWITCHES, **definition}
    if machines := machines_of(definition):
        filled["ResourceConfig"] = machines
    filled = _training(filled)
    filled["AlgorithmSpecification"] = {
        "MetricDefinitions": [],
        **definition["AlgorithmSpecification"],
    }
    metric = definition.get("TuningObjective", objective).get("MetricName")
    static = definition.get("StaticHyperParameters", {})
    filled["StaticHyperParameters"] = {
        **static,
        **({OBJECTIVE_HYPERPARAMETER: metric} if metric else {}),
    }
    if "HyperParameterRanges" in definition:
        filled["HyperParameterRanges"] = _ranges(definition["HyperParameterRanges"])
    return filled


def _ranges(ranges: Mapping[str, Any]) -> Body:
    filled: Body = {**{name: [] for name in RANGES}, **ranges}
    for name in SCALED:
        filled[name] = [{"ScalingType": "Auto", **each} for each in filled[name]]
    return filled


def _container(container: Mapping[str, Any]) -> Body:
    filled: Body = {"Mode": "SingleModel", "Environment": {}, **container}
    if url := container.get("ModelDataUrl"):
        single = filled["Mode"] == "SingleModel"
        source = {
            "S3Uri": url,
            "S3DataType": "S3Object" if single else "S3Prefix",
            "CompressionType": "Gzip" if single else "None",
        }
        filled.setdefault("ModelDataSource", {"S3DataSource": source})
    return filled


def _fill_async(filled: Body) -> None:
    if "AsyncInferenceConfig" in filled:
        config = {"ClientConfig": {}, **filled["AsyncInferenceConfig"]}
        _fill(config, "OutputConfig", {"KmsKeyId": "", "NotificationConfig": {}})
        filled["AsyncInferenceConfig"] = config


def _fill(body: Body, member: str, defaults: Mapping[str, Any]) -> None:
    """Fill a structure of the body, if the body has it."""
    if member in body:
        body[member] = {**defaults, **body[member]}

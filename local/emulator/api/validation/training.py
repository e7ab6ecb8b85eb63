"""Validation of training jobs."""

import re
from typing import Any

from local.emulator.api.validation.data import (
    AUGMENTED_MANIFEST,
    NO_AUGMENTED_MANIFEST,
    check_input,
    check_outputs,
)
from local.emulator.api.validation.debugger import check_debugger
from local.emulator.api.validation.fields import check_unique, refuse_present, unsupported
from local.emulator.api.validation.tags import check_rehearsal, check_tags
from local.emulator.context import Context
from local.emulator.errors import invalid, limit_exceeded
from local.emulator.training.describe import DAY_SECONDS
from local.emulator.training.opt_ml import DEFAULT_PATHS, BadPath, local_path

MAX_RUNTIME = 28 * 24 * 3600
"""Largest MaxRuntimeInSeconds (SageMaker's quotas)."""

OUTPUTS = {
    "OutputDataConfig": "S3OutputPath",
    "CheckpointConfig": "S3Uri",
    "DebugHookConfig": "S3OutputPath",
    "ProfilerConfig": "S3OutputPath",
    "TensorBoardOutputConfig": "S3OutputPath",
}

UNSUPPORTED = {
    "AlgorithmSpecification.AlgorithmName": "give AlgorithmSpecification.TrainingImage",
    "ResourceConfig.InstancePreferences": "give ResourceConfig.InstanceType and InstanceCount",
    "ResourceConfig.InstancePlacementConfig": "leave it out",
    "ResourceConfig.TrainingPlanArn": "leave it out",
    "ExperimentConfig": "leave it out: there are no experiments",
    "MlflowConfig": "leave it out and name a server in Environment: MLFLOW_TRACKING_URI",
    "ModelPackageConfig": "leave it out: there is no model registry",
    "RemoteDebugConfig.EnableRemoteDebug": "leave it out",
    "ServerlessJobConfig": "give AlgorithmSpecification and ResourceConfig",
}

IMAGE_FROM_VPC = "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAccessMode"


def check_training(request: dict[str, Any], context: Context) -> None:
    """Check a CreateTrainingJob request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
        ExecutorError: the executor cannot run the image, or does not answer.
    """
    check_tags(request)
    if "AlgorithmSpecification" not in request:
        raise invalid(
            "AlgorithmSpecification is missing; expected TrainingImage and TrainingInputMode."
        )
    check_rehearsal(request, spot=request.get("EnableManagedSpotTraining", False))
    check_resources(request.get("ResourceConfig", {}), context, "ResourceConfig")
    check_definition(request, context)
    check_debugger(request, context)
    context.executor.check_image(request["AlgorithmSpecification"]["TrainingImage"])


def check_definition(request: dict[str, Any], context: Context, where: str = "") -> None:
    """Check the members that a training job and a training job definition share.

    Args:
        request: the CreateTrainingJob request or the TrainingJobDefinition.
        context: the region.
        where: prefix of the fields' names in messages.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    refuse_present(request, UNSUPPORTED, where)
    algorithm = request["AlgorithmSpecification"]
    if not algorithm.get("TrainingImage"):
        raise invalid(
            f"{where}AlgorithmSpecification.TrainingImage is missing; expected an image's URI."
        )
    access = algorithm.get("TrainingImageConfig", {}).get("TrainingRepositoryAccessMode")
    if access == "Vpc":
        raise unsupported(f"{where}{IMAGE_FROM_VPC} 'Vpc'", "expected Platform")
    _check_mode(f"{where}AlgorithmSpecification.TrainingInputMode", algorithm["TrainingInputMode"])
    check_metrics(algorithm.get("MetricDefinitions", []), where)
    _check_times(request, where)
    for channel in _named_channels(request, where):
        _check_channel(channel, request, context, where)
    check_outputs(request, OUTPUTS, context, where)
    for name in DEFAULT_PATHS:
        try:
            local_path(request, name)
        except BadPath as error:
            raise invalid(f"{where}{error}.") from None


def check_metrics(definitions: list[dict[str, str]], where: str) -> None:
    """Check that metrics have unique names and valid regular expressions.

    Raises:
        ServiceError: they do not.
    """
    field = f"{where}AlgorithmSpecification.MetricDefinitions"
    check_unique(field, (definition["Name"] for definition in definitions))
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except (re.error, OverflowError, RecursionError) as error:
            raise invalid(
                f"{field}: the Regex '{definition['Regex']}' of metric '{definition['Name']}' is "
                f"not a regular expression: {error}."
            ) from None


def _check_mode(field: str, mode: str) -> None:
    if mode == "Pipe":
        raise unsupported(f"{field} 'Pipe'", "expected File or FastFile")


def check_resources(resources: dict[str, Any], context: Context, field: str) -> None:
    """Check a job's instances: at least one, and no more than the executor has hosts.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    groups = _groups(resources)
    both = groups and ("InstanceType" in resources or "InstanceCount" in resources)
    if both:
        raise invalid(
            f"{field}.InstanceGroups was given with InstanceType or InstanceCount; expected one "
            "or the other."
        )
    check_unique(f"{field}.InstanceGroups", (group["InstanceGroupName"] for group in groups))
    for part in groups or [resources]:
        for member in ("InstanceType", "InstanceCount"):
            if not part.get(member):
                raise invalid(
                    f"{field}.{member} is {part.get(member, 'missing')}; expected an instance "
                    "type, and a count of at least 1."
                )
    count = sum(part["InstanceCount"] for part in groups or [resources])
    name, most = context.executor.name, context.executor.max_hosts
    if count > most:
        hint = "use --executor docker" if name != "docker" else "use fewer"
        raise limit_exceeded(
            f"{field}.InstanceCount is {count}; the executor {name} has {most} "
            f"host{'s' * (most > 1)}: {hint}."
        )


def _groups(resources: dict[str, Any]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = resources.get("InstanceGroups", [])
    return groups


def _check_times(request: dict[str, Any], where: str) -> None:
    condition = request.get("StoppingCondition", {})
    run, wait = condition.get("MaxRuntimeInSeconds"), condition.get("MaxWaitTimeInSeconds")
    if run is not None and run > MAX_RUNTIME:
        raise invalid(
            f"{where}StoppingCondition.MaxRuntimeInSeconds is {run}; expected at most "
            f"{MAX_RUNTIME} (28 days)."
        )
    if not request.get("EnableManagedSpotTraining", False):
        if wait is not None:
            raise invalid(
                "Invalid MaxWaitTimeInSeconds. It is only supported when "
                f"EnableManagedSpotTraining is set to true ({where}StoppingCondition has {wait})."
            )
        return
    if request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"):
        raise invalid(
            f"{where}ResourceConfig.KeepAlivePeriodInSeconds was given with "
            "EnableManagedSpotTraining; expected one or the other."
        )
    if wait is None or wait < (run or DAY_SECONDS):
        found = "missing" if wait is None else wait
        raise invalid(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
            f"MaxRuntimeInSeconds when EnableManagedSpotTraining is set to true ({where}"
            f"StoppingCondition: found {found}, expected at least {run or DAY_SECONDS})."
        )


def _named_channels(request: dict[str, Any], where: str) -> list[dict[str, Any]]:
    channels: list[dict[str, Any]] = request.get("InputDataConfig", [])
    names = [channel["ChannelName"] for channel in channels]
    check_unique(f"{where}InputDataConfig", names)
    for name in names:
        if name in (".", ".."):
            raise invalid(
                f"{where}InputDataConfig has the ChannelName '{name}'; expected a folder's name."
            )
    return channels


def _check_channel(
    channel: dict[str, Any], request: dict[str, Any], context: Context, where: str
) -> None:
    field = f"{where}InputDataConfig '{channel['ChannelName']}'"
    refuse_present(
        channel,
        {
            "DataSource.FileSystemDataSource": "expected an S3DataSource",
            "DataSource.DatasetSource": "expected an S3DataSource",
            "DataSource.S3DataSource.HubAccessConfig": "leave it out",
        },
        f"{field}: ",
    )
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise invalid(f"{field}: DataSource has no S3DataSource; expected one.")
    if source["S3DataType"] == AUGMENTED_MANIFEST:
        raise unsupported(f"{field}: S3DataType '{AUGMENTED_MANIFEST}'", NO_AUGMENTED_MANIFEST)
    _check_mode(f"{field}: InputMode", channel.get("InputMode", "File"))
    for member in ("CompressionType", "RecordWrapperType"):
        if channel.get(member, "None") != "None":
            raise invalid(
                f"{field}: {member} is '{channel[member]}'; expected None, as it is only for Pipe "
                "mode."
            )
    if source.get("AttributeNames"):
        raise invalid(f"{field}: AttributeNames was given; only an {AUGMENTED_MANIFEST} has them.")
    names = {group["InstanceGroupName"] for group in _groups(request.get("ResourceConfig", {}))}
    if unknown := sorted(set(source.get("InstanceGroupNames", [])) - names):
        raise invalid(
            f"{field}: InstanceGroupNames has '{unknown[0]}'; ResourceConfig.InstanceGroups has "
            f"{', '.join(sorted(names)) or 'none'}."
        )
    check_input(source, field, request["RoleArn"], context)
